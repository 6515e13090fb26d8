"""Shared material: the sample folder at a small size, and one finished run of both tracks on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ffpdata.media.geometry import Geometry
from tests.chromium import CHROMIUM

SMALL = Geometry(width=320, height=192, fps=16, frames=33)
SMALL_SETTINGS = [
    f"clip={{width: {SMALL.width}, height: {SMALL.height}, fps: {SMALL.fps}, frames: {SMALL.frames}}}",
    "ingest.min_side=96",
]


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
    from ffpdata.export.shards import export
    from ffpdata.manifests.run_folder import RunFolder
    from ffpdata.runners.session import StartOptions, start

    folder = tmp_path_factory.mktemp("finished")
    run = RunFolder(folder / "run")
    start(
        run,
        load_pipeline("local_editing", overrides=SMALL_SETTINGS),
        str(samples / "clips.csv"),
        StartOptions(quiet=True),
    )
    start(run, load_pipeline("stylization", overrides=SMALL_SETTINGS), str(samples), StartOptions(quiet=True))
    export(run, folder / "out", shard_size_mb=1)
    return Finished(folder / "run", folder / "out")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; its tests are marked `needs_chromium`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def as_root() -> bool:
    """Whether file permissions do not hold for this user."""
    return os.geteuid() == 0
