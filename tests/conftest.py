"""What the tests share: marks and their order, the sample folder at a small size, one finished run of both tracks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ffpdata.media.geometry import Geometry
from tests import marks, shared
from tests.chromium import CHROMIUM

TESTS = Path(__file__).parent
REAL_MODELS = os.environ.setdefault("FFPDATA_MODELS_OF_TESTS", os.environ.get("FFPDATA_MODELS", ""))
"""What the variable was before: the workers of a test run inherit the environment that the line below has changed."""
NO_NETWORKS = str(TESTS / "no-networks")
"""A folder that is not there: tests are the same whatever is installed."""
os.environ["FFPDATA_MODELS"] = NO_NETWORKS
SMALL = Geometry(width=320, height=192, fps=16, frames=33)
SMALL_SETTINGS = [
    f"clip={{width: {SMALL.width}, height: {SMALL.height}, fps: {SMALL.fps}, frames: {SMALL.frames}}}",
    "ingest.min_side=96",
]


LONGEST = [
    "benchmarks/test_tiny.py",
    "runners/test_ray.py",
    "refine/test_rounds.py",
    "test_tracks.py",
    "runners/test_ray_tracks.py",
    "propagation/test_train.py",
    "training/test_finetune.py",
    "runners/test_remote_run.py",
    "models/test_production.py",
    "test_docs.py",
    "export/test_shards.py",
    "test_takedown.py",
    "training/test_loop.py",
    "serve/test_serve_vlm_ray.py",
    "runners/test_job.py",
]
"""Files that are begun first, so that the workers, which take file after file, end together."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help=f"leave out tests that are marked: {', '.join(marks.MARKS)}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--fast`, a file whose tests would all be left out is not even imported."""
    if config.option.fast and collection_path.name.startswith("test_") and collection_path.suffix == ".py":
        return bool(marks.of_file(collection_path)) or None
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by what they need, and begin with the longest files."""
    left_out = []
    for item in items:
        for name in (needed := marks.of_item(item)):
            item.add_marker(name)
        if config.option.fast and needed:
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    places = {TESTS / name: number for number, name in enumerate(LONGEST)}
    items[:] = sorted((i for i in items if i not in set(left_out)), key=lambda i: places.get(i.path, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _shared_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is built once lies under the base folder that all workers of this test run have in common."""
    base = tmp_path_factory.getbasetemp()
    shared.use((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared")


@pytest.fixture(autouse=True)
def _stays_fast(request: pytest.FixtureRequest) -> Iterator[None]:
    """With `--fast`, no test may load what it was to be without: it needs a mark."""
    yield
    if request.config.option.fast:
        assert not {"torch", "ray", "playwright"} & sys.modules.keys(), "mark this test's file, or fix tests/marks.py"


@pytest.fixture(scope="session")
def samples() -> Path:
    """The sample folder at 320x192x33, ground truth included. Tests must not change it."""
    from ffpdata.sample import write_samples

    return shared.built_once("samples", lambda folder: write_samples(folder, geometry=SMALL))


@dataclass(frozen=True)
class Finished:
    """A finished run and its export."""

    run: Path
    out: Path


@pytest.fixture(scope="session")
def finished(samples: Path) -> Finished:
    """Both tracks in one run folder, exported. Tests must not change it."""

    def build(folder: Path) -> None:
        from ffpdata.core.config import load_pipeline
        from ffpdata.export.shards import export
        from ffpdata.manifests.run_folder import RunFolder
        from ffpdata.runners.session import StartOptions, start

        run, options = RunFolder(folder / "run"), StartOptions(quiet=True)
        start(run, load_pipeline("local_editing", overrides=SMALL_SETTINGS), str(samples / "clips.csv"), options)
        start(run, load_pipeline("stylization", overrides=SMALL_SETTINGS), str(samples), options)
        export(run, folder / "out", shard_size_mb=1)

    folder = shared.built_once("finished", build)
    return Finished(folder / "run", folder / "out")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; its tests are marked `needs_chromium`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def packaged_models() -> Iterator[Path]:
    """The packaged networks that are installed on this machine, for the tests that take it; skips where they are not.

    It holds for fixtures of the module that take it, too; the other tests of the module have none.
    """
    from ffpdata.models.packaged.catalogue import chosen
    from ffpdata.models.packaged.location import found_file, missing

    models = chosen(())
    with pytest.MonkeyPatch.context() as patch:
        use_networks(patch, real=True)
        if why := missing(model.name for model in models):
            pytest.skip(why)
        path = found_file(models[0], models[0].network)
        assert path
        yield path.parent


@pytest.fixture(autouse=True)
def _networks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No packaged network is installed, but for tests that ask for `packaged_models`."""
    use_networks(monkeypatch, real="packaged_models" in request.fixturenames)


def use_networks(patch: pytest.MonkeyPatch, *, real: bool) -> None:
    """Let packaged networks be those of the machine, or none."""
    if not real:
        patch.setenv("FFPDATA_MODELS", NO_NETWORKS)
    elif REAL_MODELS:
        patch.setenv("FFPDATA_MODELS", REAL_MODELS)
    else:
        patch.delenv("FFPDATA_MODELS", raising=False)


@pytest.fixture
def as_root() -> bool:
    """Whether file permissions do not hold for this user."""
    return os.geteuid() == 0
