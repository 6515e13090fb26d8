"""Run and export on an object store: the same bytes as on a disk."""

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffpdata.core.errors import FatalError
from ffpdata.core.sections import ExportSettings
from ffpdata.curate.curation import curate
from ffpdata.export import shards
from ffpdata.export.loader import pairs
from ffpdata.export.shards import export
from ffpdata.export.verify import verify
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.report import page
from ffpdata.storage.scratch import process_scratch
from tests.fixture_run import copy_run
from tests.s3_server import s3_proxy

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Files of an S3 server on this machine with one bucket."""
    import s3fs

    with s3_proxy(monkeypatch) as proxy:
        yield s3fs.S3FileSystem(endpoint_url=proxy.url)


def test_a_remote_run_is_curated_exported_verified_read_and_reported(
    bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = copy_run(tmp_path / "run")
    bucket.put(f"{tmp_path}/run/", "bucket/run/", recursive=True)
    run = RunFolder.existing("s3://bucket/run")
    assert curate(run) == curate(local)
    export(run, "s3://bucket/out", shard_size_mb=0.12)
    sections = {"style": ExportSettings(members={"depth.mp4": "depth_video"}, columns=["depth_kind"])}
    dataset = export(run, "s3://bucket/out", sections=sections)
    export(local, tmp_path / "out", sections=sections)
    remote = {name.removeprefix("bucket/out/"): bucket.cat_file(name) for name in bucket.find("bucket/out")}
    assert len(dataset.shards) == 2
    assert {name: hashlib.sha256(data).hexdigest() for name, data in remote.items()} == {
        str(p.relative_to(tmp_path / "out")): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    }
    assert verify("s3://bucket/out").problems == []
    assert next(pairs("s3://bucket/out", "train"))["target"].shape == (17, 96, 160, 3)
    monkeypatch.setattr(page, "MAX_OTHERS", 0)
    monkeypatch.setattr(page, "MAX_EXAMPLES", 2)
    assert page.write_report(run, max_pairs=2) == "s3://bucket/run/report/index.html"
    assert bucket.exists("bucket/run/report/index.html")
    with pytest.raises(FatalError, match="not empty and no export"):
        export(run, "s3://bucket/run")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards, "write_tar", full)
    with pytest.raises(FatalError, match=f"{process_scratch().folder}: no space left on the device"):
        export(run, "s3://bucket/other")
