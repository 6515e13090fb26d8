"""One stage on one row, outside of any run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ffpdata
from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.media.codec import read_video, write_video
from tests import toys

WITH_SETTINGS = "ffpdata.models.vace:Vace"


class Named(toys.Odd):
    """Applies to one kind of row alone."""

    name = "named"


class Notes(ffpdata.Stage):
    name = "notes"
    reads = ("number",)
    writes = {"double": float}

    def process(self, row: ffpdata.Row) -> dict[str, Any]:
        row.notes["asked"] = row["number"]
        return {"double": np.float32(2 * row["number"])}


def test_a_file_comes_out(tmp_path: Path) -> None:
    trial = ffpdata.try_stage(toys.Upper(mark="?"), {"text": "alpha", "other": 1}, folder=tmp_path / "trial")
    assert (trial.status, trial.ok, trial.reason, trial.error) == ("ok", True, "", "")
    assert trial.columns == {"loud": str(trial.files["loud"]), "length": 5, "facts": {"marks": 1.0}}
    assert trial.files["loud"].read_text() == "ALPHA?"
    assert trial.files["loud"].is_relative_to(tmp_path / "trial")
    assert trial.folder == tmp_path / "trial"
    assert trial.rows == [{"text": "alpha", "other": 1, **trial.columns}]
    assert 0 < trial.seconds < 10
    assert repr(trial).startswith("upper: ok in 0.")
    assert "\n  length = 5" in repr(trial)


def test_the_next_stage_takes_its_row() -> None:
    first = ffpdata.try_stage(toys.Upper, {"text": "alpha"})
    second = ffpdata.try_stage(toys.Fan, first.rows[0])
    assert [Path(row["copy"]).read_text() for row in second.rows] == ["ALPHA!", "ALPHA!ALPHA!"]
    assert [row["number"] for row in second.rows] == [0, 1]
    assert "2 rows, the first of them:" in repr(second)
    assert first.folder != second.folder


def test_a_rejection_is_a_result() -> None:
    trial = ffpdata.try_stage(toys.Upper, {"text": "reject"})
    assert (trial.status, trial.ok, trial.reason, trial.error) == ("rejected", False, "too_bad", "it says so")
    assert (trial.columns, trial.rows, trial.files) == ({"length": 6}, [], {})
    assert ", too_bad: it says so\n  length = 6" in repr(trial)


@pytest.mark.parametrize(
    ("row", "reason", "last"),
    [
        ({"text": "raise"}, "ZeroDivisionError", "ZeroDivisionError: on purpose"),
        ({}, "KeyError", "an earlier one write it"),
        ({"text": "busy"}, "gave_up", "the service is busy"),
    ],
)
def test_an_error_is_a_result(row: dict[str, Any], reason: str, last: str) -> None:
    trial = ffpdata.try_stage(toys.Upper, row)
    assert (trial.status, trial.reason) == ("failed", reason)
    assert last in trial.error
    assert last in repr(trial)
    assert len(repr(trial).splitlines()) == 1


def test_a_row_that_the_stage_is_not_for() -> None:
    trial = ffpdata.try_stage(Named, {"number": 2, "copy": "x"})
    assert (trial.status, trial.ok, trial.columns, trial.rows) == ("skipped", True, {}, [{"number": 2, "copy": "x"}])


def test_notes_and_plain_values() -> None:
    trial = ffpdata.try_stage(Notes, {"number": 3})
    assert (trial.columns, trial.notes) == ({"double": 6.0}, {"asked": 3})
    assert "\n  note asked = 3" in repr(trial)


def test_files_of_the_row_are_where_the_caller_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here.txt").write_text("here")
    monkeypatch.chdir(tmp_path)
    for place in ("here.txt", tmp_path / "here.txt", str(tmp_path / "here.txt")):
        trial = ffpdata.try_stage(toys.Second(trace="t"), {"note": place})
        assert trial.columns == {"length": 4}
    lost = ffpdata.try_stage(toys.Second(trace="t"), {"note": "there.txt"})
    assert (lost.status, lost.reason) == ("failed", "FileNotFoundError")
    assert "no such file; name it by a path from the working directory: 'there.txt'" in repr(lost)


def test_a_trial_takes_nothing_from_an_earlier_one(tmp_path: Path) -> None:
    toys.Upper.calls.clear()
    for _ in range(2):
        ffpdata.try_stage(toys.Upper, {"text": "alpha"}, folder=tmp_path)
    assert toys.Upper.calls == ["alpha", "alpha"]


def test_a_stage_that_comes_with_ffpdata_and_its_model(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 255, (9, 96, 160, 3), np.uint8)
    write_video(tmp_path / "clip.mp4", frames, 16.0)
    row = {"source_video": tmp_path / "clip.mp4", "fps": 16.0}
    trial = ffpdata.try_stage("depth", row, profile="cpu")
    assert trial.ok, trial.error
    assert read_video(trial.files["depth_video"]).shape == frames.shape
    with pytest.raises(FatalError, match="needs a model for the role 'depth_estimator'"):
        ffpdata.try_stage("depth", row)
    with pytest.raises(ConfigError, match="no entry 'stepz'"):
        ffpdata.try_stage(
            "depth", row, models={"depth_estimator": {"backend": WITH_SETTINGS, "settings": {"stepz": 1}}}
        )
