"""A run without a pair says what turned most items away, and what to change."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffpdata.core.config import load_pipeline
from ffpdata.core.pipeline import Pipeline, StageEntry
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.codec import write_video
from ffpdata.runners.no_pairs import why_none
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


def test_what_can_have_no_pairs(tmp_path: Path) -> None:
    [line] = toys(tmp_path, ["alpha"], "Read", "Upper")
    assert line.startswith("No pair: no stage of t writes `source_video`")
    (tmp_path / "b").mkdir()
    [line] = toys(tmp_path / "b", ["alpha"], "Read", "Upper", "End", stages="..upper")
    assert line.startswith("No pair: this start computed the stages ..upper alone")
