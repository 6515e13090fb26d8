"""Shared material: the sample folder at a small size, and one finished run of both tracks on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from ffpdata.media.geometry import Geometry

ONE_CLUSTER = (
    *("models/test_production.py", "runners/test_job.py", "runners/test_ray.py", "runners/test_ray_tracks.py"),
    *("runners/test_remote_run.py", "serve/test_serve_vlm_ray.py"),
)
"""Tests with a Ray cluster: one at a time on a machine."""

SMALL = Geometry(width=320, height=192, fps=16, frames=33)
SMALL_SETTINGS = [
    f"clip={{width: {SMALL.width}, height: {SMALL.height}, fps: {SMALL.fps}, frames: {SMALL.frames}}}",
    "ingest.min_side=96",
]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes (`-n`), a file's tests share one, for the sake of its fixtures."""
    for item in items:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        item.add_marker(pytest.mark.xdist_group("cluster" if path in ONE_CLUSTER else path))


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample folder at 320x192x33, ground truth included."""
    from ffpdata.sample import write_samples

    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, geometry=SMALL)
    return folder


@dataclass(frozen=True)
class Finished:
    """A finished run and its export."""

    run: Path
    out: Path


@pytest.fixture(scope="session")
def finished(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Both tracks in one run folder, exported. Tests must not change it."""
    from ffpdata.core.config import load_pipeline
    from ffpdata.core.run import RunFolder
    from ffpdata.export.shards import export
    from ffpdata.runners.session import Work, start

    folder = tmp_path_factory.mktemp("finished")
    run = RunFolder(folder / "run")
    start(run, load_pipeline("local_editing", overrides=SMALL_SETTINGS), str(samples / "clips.csv"), Work(quiet=True))
    start(run, load_pipeline("stylization", overrides=SMALL_SETTINGS), str(samples), Work(quiet=True))
    export(run, folder / "out", shard_size_mb=1)
    return Finished(folder / "run", folder / "out")


@pytest.fixture
def as_root() -> bool:
    """Whether file permissions do not hold for this user."""
    return os.geteuid() == 0
