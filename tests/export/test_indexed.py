"""Samples of an export one by one, local and on an object store."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.errors import FatalError
from ffpdata.curate.curation import curate
from ffpdata.export.indexed import IndexedPairs, changes
from ffpdata.export.loader import pairs
from ffpdata.export.shards import export
from tests.fixture_run import copy_run
from tests.s3_server import s3_proxy


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexed")
    run = copy_run(folder / "run")
    curate(run)
    export(run, folder / "out")
    return folder / "out"


def test_a_sample_is_what_the_loader_reads(out: Path) -> None:
    read = {pair["key"]: pair for pair in pairs(out)}
    indexed = IndexedPairs(out)
    assert [sample.key for sample in indexed] == list(read)
    for sample in reversed(indexed.samples[-2:]):  # in any order
        pair = read[sample.key]
        assert indexed.record(sample) == pair["json"]
        assert np.array_equal(indexed.source(sample, 9), pair["source"][:9])
        assert np.array_equal(indexed.target(sample), pair["target"])
        assert np.array_equal(indexed.edited_first_frame(sample), pair["edited_first_frame"])
        assert (sample.frames, sample.height, sample.width) == pair["source"].shape[:3]


def test_splits_and_their_shards(out: Path) -> None:
    whole, test = IndexedPairs(out), IndexedPairs(out, ["test"])
    assert {sample.split for sample in test} == {"test"}
    assert 0 < len(test) < len(whole)
    assert test.shards.items() < whole.shards.items()


def test_a_damaged_shard_and_another_index_are_told(out: Path, tmp_path: Path) -> None:
    own = shutil.copytree(out, tmp_path / "own")
    sample = IndexedPairs(own).samples[0]
    tar = own / sample.shard
    data = bytearray(tar.read_bytes())
    data[sample.members["source.mp4"].offset + 100] ^= 1
    tar.write_bytes(data)
    with pytest.raises(FatalError, match=r"source.mp4 has other bytes than its index says"):
        IndexedPairs(own).source(sample)
    index = tar.with_suffix(".parquet")
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(FatalError, match="missing or damaged"):
        IndexedPairs(own)


@pytest.mark.slow
def test_from_an_object_store(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    with s3_proxy(monkeypatch) as proxy:
        s3fs.S3FileSystem(endpoint_url=proxy.url).put(f"{out}/", "bucket/out/", recursive=True)
        check_remote(out, "s3://bucket/out")


def check_remote(out: Path, url: str) -> None:
    local, remote = IndexedPairs(out), IndexedPairs(url)
    assert remote.shards == local.shards
    sample = remote.samples[3]
    assert np.array_equal(remote.target(sample, 5), local.target(local.samples[3], 5))


def test_changes_name_shards_and_digests() -> None:
    before = {f"train/{name}": name * 20 for name in "abcdef"}
    after = before | {"train/a": "z" * 20, "train/g": "g" * 20}
    del after["train/b"]
    assert changes(before, before) == []
    assert changes(before, after) == [
        f"gone: train/b ({'b' * 12})",
        f"new: train/g ({'g' * 12})",
        f"changed: train/a ({'a' * 12} now {'z' * 12})",
    ]
    assert changes(before, {})[0].endswith("and 3 more")
