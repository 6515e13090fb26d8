"""`ffpdata propagate` with the embedded propagator: one clip, a table that resumes, and rows that end with a reason."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ffpdata.api.propagation import propagate_clip, propagate_table
from ffpdata.cli import app
from ffpdata.core.errors import FatalError, FfpdataError, UsageError
from ffpdata.media.codec import read_first_frame, read_video, write_image

SMALL = [
    "clip.width=320",
    "clip.height=192",
    "clip.frames=9",
    "ingest.min_side=96",
    "first_frame.min_side=96",
]


@pytest.fixture(scope="module")
def given(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip, its first frame with a lighter part, and a table."""
    folder = tmp_path_factory.mktemp("given")
    clip = samples / "clips" / "ball_static.mp4"
    (folder / "clip.mp4").write_bytes(clip.read_bytes())
    first = read_first_frame(clip).copy()
    write_image(folder / "same.png", first)
    height, width = first.shape[:2]
    part = np.s_[height // 4 : height // 2, width // 4 : width // 2]
    first[part] = np.clip(first[part].astype(int) + 50, 0, 255)
    write_image(folder / "edited.png", first)
    write_image(folder / "square.png", first[:, :height])
    rows = [["path", "edited_first_frame", "caption"], ["clip.mp4", "edited.png", "a light part"]]
    rows += [["clip.mp4", "same.png", ""], ["clip.mp4", "square.png", ""], ["clip.mp4", "", ""]]
    rows += [["gone.mp4", "edited.png", ""], ["clip.mp4", "gone.png", ""]]
    with (folder / "table.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder


def test_a_table_resumes_and_bad_rows_end_with_their_reason(given: Path, tmp_path: Path) -> None:
    run = propagate_table(given / "table.csv", tmp_path / "run", profile="cpu", overrides=SMALL)
    assert run.result is not None
    reasons = {reason: count for stage in run.result.stages.values() for reason, count in stage["reasons"].items()}
    assert reasons == {
        "first_frame_unchanged": 1,
        "aspect_differs": 1,
        "no_edited_first_frame": 1,
        "missing_file": 2,
    }
    [row] = run.sql("select * from items where target_video is not null").to_pylist()
    made = read_video(run.folder.store.fetch(row["target_video"]))
    source = read_video(run.folder.store.fetch(row["source_video"]))
    part = np.s_[:, 60:84, 90:150]
    assert (made[part].astype(int) - source[part]).mean() > 30
    again = propagate_table(given / "table.csv", tmp_path / "run", profile="cpu", overrides=SMALL)
    assert again.result is not None
    assert again.result.computed == 0


def test_one_clip_is_as_a_row_of_a_table(given: Path, tmp_path: Path) -> None:
    arguments = ["propagate", str(given / "clip.mp4"), str(given / "edited.png"), str(tmp_path / "out.mp4")]
    settings = [word for text in SMALL for word in ("--set", text)]
    done = CliRunner().invoke(app, [*arguments, "--profile", "cpu", "--prompt", "a light part", *settings])
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["model"].startswith("flow_propagator")
    assert told["facts"]["carried"] > 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.mp4"]
    assert read_video(tmp_path / "out.mp4").shape == (9, 192, 320, 3)
    with pytest.raises(FfpdataError, match="first_frame rejected: first_frame_unchanged"):
        propagate_clip(given / "clip.mp4", given / "same.png", tmp_path / "b.mp4", profile="cpu", overrides=SMALL)
    assert not (tmp_path / "b.mp4").exists()


def test_wrong_words_are_told(given: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"name the clip to write, e.g. out.mp4"):
        propagate_clip(given / "clip.mp4", given / "edited.png", tmp_path / "out.gif", profile="cpu")
    with pytest.raises(UsageError, match=r"gone\.mp4 is not there"):
        propagate_clip(given / "gone.mp4", given / "edited.png", tmp_path / "out.mp4", profile="cpu")
    with pytest.raises(FatalError, match="name the folder that `ffpdata train` wrote"):
        propagate_table(given / "table.csv", tmp_path / "run", model=tmp_path, profile="cpu")
    with pytest.raises(UsageError, match="give a table with the columns `path` and `edited_first_frame`"):
        propagate_table(given, tmp_path / "run", profile="cpu")
