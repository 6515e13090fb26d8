"""A run without a pair says what turned most items away, and what to change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.pipeline import Pipeline, StageEntry
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.codec import write_video
from ffpdata.runners.no_pairs import ADVICE, _remedies, why_none
from ffpdata.runners.session import StartOptions, start


def toys(folder: Path, texts: list[str], *names: str, stages: str = "") -> list[str]:
    (folder / "in").mkdir()
    for text in texts:
        (folder / "in" / f"{text}.txt").write_text(text)
    entries = [StageEntry(name=name.lower(), use=f"tests.toys:{name}") for name in names]
    pipeline, run = Pipeline(name="toys", track="t", stages=entries), RunFolder(folder / "run")
    return why_none(run, start(run, pipeline, str(folder / "in"), StartOptions(quiet=True, stages=stages)))


def test_the_limit_that_most_items_broke(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        write_video(tmp_path / f"in/{number}.mp4", np.full((20, 72, 128, 3), 40 * number, np.uint8), 16)
    (tmp_path / "in/broken.mp4").write_bytes(b"no clip")
    pipeline, run = load_pipeline("local_editing", overrides=["clip.frames=17"]), RunFolder(tmp_path / "run")
    first, example, *remedies = why_none(run, start(run, pipeline, str(tmp_path / "in"), StartOptions(quiet=True)))
    assert first == "No pair. Most items were turned away at ingest: too_small, 2 of 3 items that came there."
    assert "72" in example
    assert remedies == ["  What decides it: --set ingest.min_side=..., now 240"]


def test_failures(tmp_path: Path) -> None:
    lines = toys(tmp_path, ["raise", "alpha"], "Read", "Upper", "End")
    assert lines == [], "one pair was made"
    (tmp_path / "b").mkdir()
    lines = toys(tmp_path / "b", ["raise", "reject"], "Read", "Upper", "End")
    assert lines[0] == "No pair. Most items failed at upper: ZeroDivisionError, 1 of 2 items that came there."
    assert lines[1] == "  For example: ZeroDivisionError: on purpose"
    assert "`ffpdata retry`" in lines[2]


def test_rejections_by_the_embedded_models_come_with_advice() -> None:
    """Each reason that they give without a limit of a setting, or with one that a user can hardly judge."""
    reasons = {"no_target", "camera_unstable", "stays_in_place", "not_distinct", "object_half_lost", "takes_ground"}
    reasons |= {"no_dominant_colour", "change_fades", "not_legible", "needs_trained_model"}
    assert reasons <= ADVICE.keys()
    assert "--profile cpu,pretrained" in ADVICE["stays_in_place"]


def test_a_limit_of_a_measured_number_has_the_advice_of_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    monkeypatch.setattr(run, "pipelines", lambda: {"local": load_pipeline("local_editing")})
    lines = list(_remedies(run, "measure", "unrevealed_peak_too_high", "unrevealed_peak is 0.2, at most 0.03"))
    assert lines[0] == "What decides it: --set measure.limits.removal.unrevealed_peak.max=..., now 0.03"
    assert lines[1] == ADVICE["unrevealed"]


def test_what_can_have_no_pairs(tmp_path: Path) -> None:
    [line] = toys(tmp_path, ["alpha"], "Read", "Upper")
    assert line.startswith("No pair: no stage of t writes `source_video`")
    (tmp_path / "b").mkdir()
    [line] = toys(tmp_path / "b", ["alpha"], "Read", "Upper", "End", stages="..upper")
    assert line.startswith("No pair: this start computed the stages ..upper alone")
