"""Pipeline `propagation` from clips to shards: killed and resumed, with another editor, exported and verified."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffpdata.core.config import Pipeline, load_pipeline
from ffpdata.export.loader import pairs
from ffpdata.export.shards import export
from ffpdata.export.verify import verify
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.report.page import write_report
from ffpdata.runners.session import StartOptions, start

SETTINGS = [
    "clip={width: 160, height: 96, fps: 16, frames: 17}",
    "ingest.min_side=96",
    "input.styles_per_source=1",
    "measure.limits={}",  # what is asked of pairs is tried elsewhere, and at a size at which it means something
    "grade.limits={}",
    "verify.min_score=0",
]
OPTIONS = StartOptions(quiet=True)


def pipeline(*more: str) -> Pipeline:
    return load_pipeline("propagation", "cpu", [*SETTINGS, *more])


@pytest.fixture(scope="module")
def table(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips, and one style image beside them."""
    folder = tmp_path_factory.mktemp("input")
    (folder / "style").mkdir()
    shutil.copy(samples / "style" / "oil.png", folder / "style")
    for name in ("astronaut_handheld", "cup_handheld"):
        shutil.copy(samples / "clips" / f"{name}.mp4", folder)
    lines = ["path,object,licence", "astronaut_handheld.mp4,astronaut,CC0-1.0", "cup_handheld.mp4,cup,CC0-1.0"]
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder / "clips.csv"


@pytest.fixture(scope="module")
def done(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run and its export. Tests must not change it."""
    folder = tmp_path_factory.mktemp("done")
    run = RunFolder(folder / "run")
    start(run, pipeline(), str(table), OPTIONS)
    export(run, folder / "out", shard_size_mb=1)
    return folder


def rows(run: Path, sql: str) -> list[dict[str, Any]]:
    return records(RunFolder.existing(run).connect(), sql)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_pairs_tell_who_made_them_and_from_which_frame(done: Path) -> None:
    assert verify(done / "out").problems == []
    assert rows(done / "run", "select item_id from items where status in ('pending', 'failed')") == []
    found = {}
    for pair in pairs(done / "out"):
        record = pair["json"]
        found.setdefault(record["task"], []).append(record)
        told = record["propagation"]
        assert told["propagator"].startswith("flow_propagator@")
        assert told["editor"].startswith("frame_editor@")
        assert told["instruction"]
        assert record["facts"]["edit"]["carried"] > 0
        # What the editor drew is what the target begins with.
        drawn = np.asarray(Image.open(io.BytesIO(pair["editor.png"]))).astype(int)
        assert np.abs(drawn - pair["target"][0]).mean() < 4
        assert np.abs(drawn - pair["source"][0]).mean() > 0.3
    assert set(found) == {"modification", "stylization"}
    [record] = found["modification"][:1]
    assert any(name.startswith("look_") for name in record["facts"]["frame"])
    assert "target" not in record["captions"], "nobody said what the edit would look like"
    assert found["stylization"][0]["captions"]["target"]
    [tar] = (done / "out").rglob("*.tar")
    with tarfile.open(tar) as archive:
        for name in archive.getnames():
            if name.endswith(".editor.png"):
                read = archive.extractfile(name.replace("editor.png", "json"))
                png = archive.extractfile(name)
                assert read
                assert png
                digest = json.load(read)["propagation"]["edited_first_frame"]
                assert hashlib.sha256(png.read()).hexdigest().startswith(digest)
    card = (done / "out" / "README.md").read_text()
    assert "was made by flow\\_propagator@" in card
    assert "First frames were edited without a trained model" in card


def test_a_killed_run_gives_the_same_shards(done: Path, table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "ffpdata.cli", "run", "propagation", "--profile", "cpu", "--input", str(table)]
    settings = [word for text in SETTINGS for word in ("--set", text)]
    with subprocess.Popen([*command, "--run", str(run), "-q", *settings], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not list((run / "artifacts" / "edited_first_frame").rglob("*.png")) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    assert not list((run / "manifests" / "grade").glob("*.parquet"))
    start(RunFolder(run), pipeline(), str(table), OPTIONS)
    export(RunFolder(run), tmp_path / "out", shard_size_mb=1)
    assert files(tmp_path / "out") == files(done / "out")


def test_another_editor_redoes_what_depends_on_it(done: Path, table: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "run", tmp_path / "run")
    run = RunFolder.existing(tmp_path / "run")
    before = {stage: run.manifest.read(stage).num_rows for stage in run.manifest.stages()}
    old = {row["item_id"]: row["edited_first_frame_id"] for row in rows(tmp_path / "run", "select * from edit_frame")}
    start(run, pipeline("models.image_editor.settings.modification.looks=[grey, darker]"), str(table), OPTIONS)
    made = {stage for stage in run.manifest.stages() if run.manifest.read(stage).num_rows != before.get(stage, 0)}
    assert made >= {"edit_frame", "check_frame", "propagate", "measure", "verify"}
    assert not made & {"source", "ingest", "identify", "caption", "propose_frame", "segment", "condition", "plan_frame"}
    new = {row["item_id"]: row["edited_first_frame_id"] for row in rows(tmp_path / "run", "select * from edit_frame")}
    assert {name for name in old if new[name] != old[name]} == {name for name in old if "modification" in name}


def test_what_no_embedded_model_can_draw_ends_in_a_row(done: Path, table: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "run", tmp_path / "run")
    start(RunFolder.existing(tmp_path / "run"), pipeline("propose_frame.edits=[{task: addition}]"), str(table), OPTIONS)
    found = rows(tmp_path / "run", "select status, reason from items where task = 'addition'")
    assert found == [{"status": "rejected", "reason": "needs_trained_model"}] * 2


def test_the_report_shows_the_edited_frame(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "run", tmp_path / "run")
    page = Path(write_report(RunFolder.existing(tmp_path / "run"), max_pairs=1)).read_text()
    made = rows(done / "run", "select edited_first_frame_id from items where status = 'ok'")
    assert sum(row["edited_first_frame_id"] in page for row in made) == 1
    assert "First frame" in page
