"""Every benchmark runs to its end at a tiny size and says what it is to measure; its bounds are for the full one."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ffpdata.curate.curation import curate
from ffpdata.export.shards import export
from ffpdata.media.codec import write_video
from tests.benchmarks.test_defects import rows as defect_rows
from tests.chromium import needs_chromium
from tests.fixture_run import copy_run

ROOT = Path(__file__).parents[2]
CLIP = ["--width", 160, "--height", 96, "--frames", 9]
SETTINGS = ["--set", "clip={width: 160, height: 96, fps: 16, frames: 9}", "--set", "ingest.min_side=64"]


def said(name: str, *options: object) -> str:
    """Run one; it ends with 0, or with 1 where a bound does not hold, and never by an exception."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr[-4000:]
    assert done.returncode in {0, 1}, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    wide = np.random.default_rng(0).integers(20, 220, (15, 30, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    write_video(path, np.stack([wide[:, 2 * t : 2 * t + 320] for t in range(20)]), 16)
    return path


def test_each_is_run_here() -> None:
    text = "".join(Path(__file__).read_text().split())
    programs = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text()}
    assert [name for name in sorted(programs) if f'said("{name}"' not in text] == []
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    assert [name for name in sorted(programs) if f"`python -m benchmarks.{name}" not in readme] == []


def test_conform(clip: Path) -> None:
    assert "conform / ffmpeg by hand" in said("conform", clip, "--rounds", 1, *CLIP)


def test_decode(clip: Path) -> None:
    assert "read_video / (ffmpeg -f null + copy)" in said("decode", clip, "--rounds", 1, *CLIP)


def test_defects(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.jsonl"
    numbers.write_text("".join(json.dumps(row) + "\n" for row in defect_rows()))
    assert "caught" in said("defects", "--numbers", numbers)


def test_gates() -> None:
    told = said("gates", "--width", 320, "--height", 192, "--frames", 1, "--count", 2, "--worlds", 1)
    assert "copies by hash" in told
    assert "recall" in told


def test_masks() -> None:
    told = said("masks", "--rounds", 1, *CLIP)
    assert "erode worst case by 8 px" in told
    assert "feather of 8 px" in told


def test_manifests() -> None:
    told = said("manifests", "--rounds", 1, "--scale", 0.001)
    assert "finished keys of 300K rows, s" in told
    assert "reading 10K parts, s" in told
    assert "10 parts" in told, "a small case keeps the size of its parts"
    assert "ffpdata --help, s" in told


@pytest.mark.slow
def test_resume(tmp_path: Path) -> None:
    told = said("resume", "wide", "--rounds", 1, "--scale", 0.0005, "--folder", tmp_path)
    for line in ("wide parts: planning, s", "wide compacted: status, s", "wide: changed, MB"):
        assert line in told


def test_curate() -> None:
    assert "curate 2000 pairs of 1000 clips" in said("curate", "--pairs", 2000)


def test_shards() -> None:
    assert "time of shards / of a plain tar with fsync" in said("shards", "--pairs", 2, "--rounds", 1, *CLIP)


@pytest.mark.browser
@needs_chromium
def test_evaluation() -> None:
    told = said("evaluation", "--clips", 20, "--methods", 2)
    assert "30 means in" in told
    assert re.search(r"page loaded, s: .* 0 video elements", told)


@pytest.mark.slow
def test_classical() -> None:
    told = said("classical", "ball_static", "--width", 320, "--height", 192, "--frames", 17)
    assert "fill_db" in told
    assert "peak memory / 1.5 GB" in told


@pytest.mark.slow
def test_stages(samples: Path, tmp_path: Path) -> None:
    shutil.copytree(samples, tmp_path / "sample")
    told = said(
        "stages", "stylization", "--until", "depth", "--clips", 1, "--scenes", 0, "--folder", tmp_path, *SETTINGS
    )
    assert "stylization: 1 clips with a target" in told
    assert "depth  " in told
    assert "CPU s per pair, aim 40" in told


@pytest.mark.ray
def test_runners(samples: Path) -> None:
    told = said("runners", "local_editing", "--sample", samples, "--limit", 1, *SETTINGS)
    assert "demo on ray / inline" in told


@pytest.mark.ray
def test_engine() -> None:
    few = ["--stages", 2, "--sleep", "1:5:60:1"]
    told = said(
        "engine", *few, "--items", 20, "--data-items", 5, "--xenna-items", 5, "--gpu-items", 20, "--unit", 0.002
    )
    assert "ffpdata           20 items" in told
    assert ("Ray Data" in told) == ("Ray Data is left out" in told or "Ray Data           5 items" in told)
    assert "1:5:60:1, whole run" in told


@pytest.mark.ray
def test_planning() -> None:
    told = said("planning", "--items", 8, "--seconds", 0.1, 0.2, 0.1, "--cpus", 2)
    assert "cores: off by" in told
    assert "cores and GPUs: off by" in told


@pytest.mark.ray
def test_overlap() -> None:
    told = said("overlap", "--clips", 4, "--seconds", 0.2, "--encoder", "ultrafast", *CLIP)
    for kind in ("edit", "masks"):
        assert f"{kind}, ultrafast: an item alone takes" in told
        assert f"{kind}, bound / busy share" in told


@pytest.mark.ray
def test_chaos() -> None:
    told = said("chaos", "--seeds", 1, "--items", 5, "--kill", "ffmpeg", "worker")
    assert "1 of 1 seeds ok; killed: {'ffmpeg': 1, 'worker': 1}" in told
    for line in (
        r"ffmpeg \d+: it ended in .* was begun [23] times and is ok",
        r"worker \d+: its 1 ffmpeg ended in .* is ok",
    ):
        assert re.search(line, told), told


@pytest.mark.browser
@needs_chromium
def test_review() -> None:
    told = said("review", "--decisions", 2, "--rate", 36000, *CLIP)
    assert "seconds per decision, unthrottled" in told
    assert "slowest seconds until the next pair shows" in told


@pytest.mark.models
@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="the extra `models` is not installed")
def test_gpu_models() -> None:
    told = said("gpu_models", "--tiny", "--only", "kernels")
    assert '"case": "kernels"' in told
    assert '"error"' not in told
    assert '"device": "CPU"' in told


@pytest.mark.models
@pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="the extra `models` is not installed")
def test_propagation(tmp_path: Path) -> None:
    run = copy_run(tmp_path / "run")
    curate(run)
    export(run, tmp_path / "out")
    sheet = tmp_path / "sheet.png"
    options = ["--seeds", 1, "--steps", 120, "--jobs", 1, "--seen", "8,12,5,4", "--sheet", sheet]
    told = said("propagation", "--exports", tmp_path / "out", *options)
    ways = "copy the source", "repeat the edited frame", "warp the edited frame", "before learning", "shared part"
    errors = {}
    for way in (*ways, "baseline", "ast_rope", "full"):
        found = re.search(rf"^{way} +([\d.]+) +([\d.]+) +([\d.]+)", told, re.MULTILINE)
        assert found, told
        errors[way] = float(found[3])  # the mean of two scenes that nothing was learned from
    for row in ("baseline", "ast_rope", "full"):
        assert errors[row] < 0.95 * errors["copy the source"], f"{row} did not learn: {told}"
        assert errors[row] < 0.8 * errors["before learning"], f"{row} did not learn: {told}"
    assert errors["repeat the edited frame"] != errors["copy the source"]
    assert "full: below all three on" in told
    assert "motion" in told
    assert sheet.is_file()


def test_what_the_small_model_sees() -> None:
    pytest.importorskip("torch")
    from benchmarks.propagation_pairs import HELD_OUT, Clip, more_scenes
    from benchmarks.propagation_view import SEEN, fold, span, unfold, varied
    from ffpdata.sample.scenes import SCENES

    frames = np.random.default_rng(0).integers(0, 256, (9, 16, 24, 3), dtype=np.uint8)
    latent = fold(frames)
    assert latent.shape == (1, 12, 3, 16, 24)
    assert np.array_equal(unfold(latent), frames), "the stand-in for the VAE can be undone exactly"
    assert np.array_equal(latent[:, :, :1], fold(frames[:1])), "it encodes the first frame alone"

    wide = np.random.default_rng(1).integers(0, 256, (span(SEEN.stride), 96, 160, 3), dtype=np.uint8)
    same = sum(np.array_equal(*varied(Clip("a", "b", wide, wide), np.random.default_rng(n))) for n in range(40))
    assert 20 <= same < 40, "what is done to the source is done to the target, but for colours of its own"

    apart = [scene for scene in SCENES if scene.name in HELD_OUT]
    for scene in more_scenes(12):
        assert scene.world not in [one.world for one in apart]
        assert scene.actor not in [one.actor for one in apart]


def test_cascade() -> None:
    told = said("cascade", "--clips", 2, "--audit", 0.5, "--draft", 80, 48, *CLIP)
    assert "4 drafts, " in told
    assert "accepted pairs that differ" in told
    assert "CPU time saved: off by" in told
