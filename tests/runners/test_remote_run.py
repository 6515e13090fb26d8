"""A run on S3 ends in the same rows and files as one on a disk, whatever the server does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ffpdata.core.config import Pipeline, load_pipeline
from ffpdata.core.errors import FatalError, RunLockedError
from ffpdata.core.pipeline import StageEntry
from ffpdata.core.sections import CurateSettings
from ffpdata.manifests.manifest import COMMON
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.runners import execute as execute_module
from ffpdata.runners.session import StartOptions, start
from ffpdata.storage import lease as lease_module
from ffpdata.storage import lock as lock_module
from ffpdata.storage import object_store, scratch
from ffpdata.storage.lock import is_locked, run_lock
from ffpdata.storage.store import Store
from tests import toys
from tests.conftest import SMALL_SETTINGS
from tests.s3_server import FlakyProxy, s3_proxy

pytestmark = pytest.mark.slow

URL = "s3://bucket/run"
TIMES = {"started_at", "seconds", "cpu_seconds", "worker"}
QUIET = StartOptions(quiet=True)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyProxy]:
    toys.Upper.calls.clear()
    toys.tries.clear()
    monkeypatch.setattr(execute_module, "RETRY_SECONDS", 0.01)
    with s3_proxy(monkeypatch) as found:
        found.slow_seconds = 0.05
        yield found


def pipeline() -> Pipeline:
    names = ("Read", "Upper", "Fan", "Odd", "End")
    stages = [StageEntry(name=name.lower(), use=f"tests.toys:{name}") for name in names]
    return Pipeline(name="toys", track="t", stages=stages, curate=CurateSettings(variants="all"))


def inputs(folder: Path, texts: list[str]) -> str:
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number:02d}.txt").write_text(text)
    return str(folder)


def content(run: RunFolder, *leave_out: str) -> tuple[list[list[tuple[str, Any]]], dict[str, bytes]]:
    """Every row that holds, without times, and every artifact."""
    rows = []
    with run.connect() as connection:
        for stage in run.manifest.stages():
            if stage == "inputs":
                continue
            found = records(connection, f'select * from "{stage}"')
            rows += [sorted((k, str(v)) for k, v in r.items() if k not in TIMES | set(leave_out)) for r in found]
    files = {}
    for kind in run.store.folders("artifacts"):
        if kind == "outcome":  # a slow stage leaves a record that a fast one does not
            continue
        for start_of_key in run.store.folders(f"artifacts/{kind}"):
            for path in run.store.list(f"artifacts/{kind}/{start_of_key}"):
                files[path] = run.store.read(path)
    return sorted(rows), files


def test_a_run_on_a_bad_server_equals_a_local_one(proxy: FlakyProxy, tmp_path: Path) -> None:
    source = inputs(tmp_path / "in", [f"text{i}" for i in range(8)] + ["reject", "raise", "text1"])
    local, far = RunFolder(tmp_path / "run"), RunFolder(URL)
    assert start(local, pipeline(), source, QUIET).pairs == start(far, pipeline(), source, QUIET).pairs == 16
    whole = content(local, "error")
    assert content(far, "error") == whole
    bad = RunFolder("s3://bucket/bad")
    proxy.rate = 0.15
    toys.Upper.calls.clear()
    start(bad, pipeline(), source, QUIET)
    assert len(toys.Upper.calls) == 10, "a fault of the server computes nothing twice"
    toys.Upper.calls.clear()
    start(bad, pipeline(), source, QUIET)
    assert toys.Upper.calls == ["raise"], "the second start finds what the first one did"
    proxy.rate = 0.0
    assert sum(proxy.faulty.values()) > 20
    assert content(bad, "error", "attempt") == content(local, "error", "attempt")
    assert not is_locked(bad.store)


def test_workers_of_a_cluster_write_the_same(
    proxy: FlakyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv(scratch.FOLDER_VARIABLE, str(tmp_path / "scratch"))
    monkeypatch.setattr(scratch, "_process", {})
    source = inputs(tmp_path / "in", [f"text{i}" for i in range(12)] + ["reject", "raise"])
    local, far = RunFolder(tmp_path / "run"), RunFolder(URL)
    start(local, pipeline(), source, QUIET)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
        proxy.rate = 0.1
        assert start(far, pipeline(), source, StartOptions(runner="ray", quiet=True)).pairs == 24
    finally:
        ray.shutdown()
        cluster.shutdown()
    proxy.rate = 0.0
    assert sum(proxy.faulty.values()) > 5
    assert content(far, "error", "attempt") == content(local, "error", "attempt")
    scratch.process_scratch().close()
    left = list((tmp_path / "scratch").rglob("*.txt"))
    assert left == [], "workers that closed left no downloads"


def test_of_two_drivers_the_second_is_refused(proxy: FlakyProxy, tmp_path: Path) -> None:
    source = inputs(tmp_path / "in", ["alpha"])
    with run_lock(Store(URL)):
        with pytest.raises(RunLockedError, match="is being written by another run"):
            start(RunFolder(URL), pipeline(), source, QUIET)
        assert not Store(URL).exists("run.yaml"), "the refused one wrote nothing"
    assert start(RunFolder(URL), pipeline(), source, QUIET).pairs == 2


def test_a_driver_that_lost_its_lease_commits_nothing_more(
    proxy: FlakyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[lease_module.Lease] = []

    class Recorded(lease_module.Lease):
        def __init__(self, url: str) -> None:
            super().__init__(url, seconds=30.0, beat=0.2)
            held.append(self)

    work = toys.Upper.process

    def lose(self, row):
        if row["text"] == "gamma":  # another run takes over, and this one's heart notices
            Store(URL).write("run.lock", b'{"token": "other", "pid": 7, "host": "there", "seconds": 60}')
            held[0]._end.wait(0.3)
            while not held[0]._lost:
                held[0]._end.wait(0.05)
        return work(self, row)

    source = inputs(tmp_path / "in", ["alpha", "beta", "gamma", "delta"])
    with monkeypatch.context() as patch:
        patch.setattr(lock_module, "Lease", Recorded)
        patch.setattr(toys.Upper, "process", lose)
        with pytest.raises(
            FatalError, match=r"taken over by another run .process 7 on there.*Nothing more is committed"
        ):
            start(RunFolder(URL), pipeline(), source, QUIET)
    run = RunFolder(URL)
    texts = {row["item_id"] for row in run.manifest.read("upper").to_pylist()}
    assert "id-gamma" not in texts
    assert "id-delta" not in texts
    assert "curate" not in run.manifest.stages()
    assert is_locked(run.store), "the other run's lease is left alone"
    run.store.remove("run.lock")
    assert start(run, pipeline(), source, QUIET).pairs == 8


def test_an_outage_under_a_stage_fails_its_item_and_not_the_run(
    proxy: FlakyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "OUTAGE_SECONDS", 0.2)
    monkeypatch.setattr(object_store, "REQUEST_ATTEMPTS", 1)
    proxy.only, proxy.rate, proxy.faults = "/artifacts/loud/", 1.0, ("503",)
    source = inputs(tmp_path / "in", ["alpha"])
    run = RunFolder(URL)
    found = start(run, pipeline(), source, QUIET)
    assert found.stages["upper"]["reasons"] == {"gave_up": 1}
    [row] = [r for r in run.manifest.read("upper").to_pylist() if r["status"] == "failed"]
    assert "has not answered as it should" in row["error"]
    assert row["attempt"] == 3
    proxy.rate = 0.0
    assert start(run, pipeline(), source, QUIET).pairs == 2


def test_an_outage_of_the_driver_ends_the_run_with_one_message(
    proxy: FlakyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "OUTAGE_SECONDS", 0.2)
    monkeypatch.setattr(object_store, "REQUEST_ATTEMPTS", 1)
    proxy.only, proxy.rate, proxy.faults = "/manifests/", 1.0, ("503",)
    source = inputs(tmp_path / "in", ["alpha"])
    with pytest.raises(FatalError, match="cannot go on without its storage: s3://bucket/run/manifests"):
        start(RunFolder(URL), pipeline(), source, QUIET)
    proxy.rate = 0.0
    assert start(RunFolder(URL), pipeline(), source, QUIET).pairs == 2
    # Also where it is SQL that cannot read a part.
    proxy.only, proxy.rate = "/bucket/run/manifests/", 1.0
    monkeypatch.setattr(scratch, "_process", {})
    with pytest.raises(FatalError, match="cannot go on without its storage: s3://bucket/run/manifests"):
        start(RunFolder(URL), pipeline(), source, QUIET)
    proxy.rate = 0.0
    assert set(COMMON.names) <= set(RunFolder(URL).manifest.read("end").column_names)


@pytest.mark.parametrize("name", ["local_editing", "stylization"])
def test_a_track_from_s3_to_s3(proxy: FlakyProxy, samples: Path, tmp_path: Path, name: str) -> None:
    """Input, styles, artifacts and manifests on the server: the same as all of it on a disk."""
    import s3fs

    server = s3fs.S3FileSystem(endpoint_url=proxy.url)
    server.put(f"{samples}/", "bucket/in/", recursive=True)
    source = "clips.csv" if name == "local_editing" else ""
    settings = [*SMALL_SETTINGS, "curate.splits={train: 1}"]
    proxy.rate = 0.03
    far, near = RunFolder(URL), RunFolder(tmp_path / "run")
    for run, root in ((far, "s3://bucket/in"), (near, str(samples))):
        start(
            run,
            load_pipeline(name, overrides=settings),
            f"{root}/{source}".rstrip("/"),
            StartOptions(limit=1, quiet=True),
        )
        proxy.rate = 0.0
    # An input is named by where it lies; from its bytes on, everything has the same name and the same key.
    rows, files = content(far, "entered_id", "upstream", "key")
    expected, their_files = content(near, "entered_id", "upstream", "key")
    assert len(rows) > 5
    assert [[c for c in row if not c[1].startswith("input/")] for row in rows] == [
        [c for c in row if not c[1].startswith("input/")] for row in expected
    ]
    assert files
    assert files == their_files
