"""Parts are append-only, whole or absent, and the newest row wins."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ffpdata.core.stage import Artifact
from ffpdata.manifests.manifest import COMMON, Manifest, ManifestWriter, arrow_type, decode, encode, stage_schema
from ffpdata.storage.store import Store
from tests.s3_server import s3_proxy

WRITES = {"n": int, "facts": dict, "video": Artifact("mp4"), "names": list[str]}
SCHEMA = stage_schema(WRITES)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest(Store(tmp_path))


def row(item: str, n: int = 0) -> dict[str, object]:
    return {
        "item_id": item,
        "entered_id": item,
        "track": "t",
        "stage": "s",
        "key": f"k{n}",
        "upstream": "",
        "status": "ok",
        "n": n,
    }


def test_rows_come_back_in_order_and_typed(manifest: Manifest) -> None:
    manifest.append("s", [row("a", 1) | encode({"facts": {"b": 2.5}, "names": ["x"]}, WRITES)], SCHEMA)
    manifest.append("s", [row("a", 2)], SCHEMA)
    table = manifest.read("s")
    assert table.column("n").to_pylist() == [1, 2]
    assert table.schema.field("facts").type == "string"
    assert decode(table.to_pylist()[0], WRITES) == {"n": 1, "facts": {"b": 2.5}, "names": ["x"]}
    assert table.column_names[: len(COMMON)] == COMMON.names


def test_parts_sort_by_time_even_when_the_clock_goes_back(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    first = manifest.append("s", [row("a", 1)], SCHEMA)
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    second = Manifest(manifest.store).append("s", [row("a", 2)], SCHEMA)
    assert first < second
    assert manifest.parts("s") == [first, second]


def test_compaction_keeps_rows_and_order(manifest: Manifest) -> None:
    for n in range(5):
        manifest.append("s", [row("a", n), row("b", n)], SCHEMA)
    before = manifest.read("s")
    assert manifest.compact("s") == 5
    assert len(manifest.parts("s")) == 1
    assert manifest.read("s").equals(before)
    later = manifest.append("s", [row("a", 9)], SCHEMA)
    assert manifest.parts("s")[-1] == later
    assert manifest.compact("s", at_least=10) == 0


def test_compaction_asks_for_each_part_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an object store every question takes its time; the sizes are in the listing."""
    with s3_proxy(monkeypatch) as proxy:
        far = Manifest(Store("s3://bucket/run"))
        for n in range(20):
            far.append("s", [row("a", n)], SCHEMA)
        proxy.requests.clear()
        assert far.compact("s") == 20
        assert proxy.requests["HEAD"] <= 1
        assert proxy.requests["GET"] <= 20 + 3, "the parts, one of them for its columns, and two listings"
        assert far.read("s")["key"].to_pylist() == [f"k{n}" for n in range(20)]


def test_a_killed_compaction_changes_nothing(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    from ffpdata.manifests.views import connect, records

    for n in range(3):
        manifest.append("s", [row("a", n)], SCHEMA)
    monkeypatch.setattr(manifest.store, "remove", lambda path: None)  # killed before the old parts are deleted
    manifest.compact("s")
    assert len(manifest.parts("s")) == 4
    rows = records(connect(manifest.store, {"t": ["s"]}), "select item_id, n from s")
    assert rows == [{"item_id": "a", "n": 2}]


def test_new_columns_join_old_parts(manifest: Manifest) -> None:
    manifest.append("s", [row("a", 1)], SCHEMA)
    manifest.append("s", [row("b", 2) | {"later": "x"}], stage_schema({**WRITES, "later": str}))
    assert manifest.read("s").column("later").to_pylist() == [None, "x"]


def test_the_writer_commits_by_time_and_by_count(manifest: Manifest) -> None:
    with ManifestWriter(manifest, seconds=0.1, rows=3) as writer:
        writer.add("s", [row("a")], SCHEMA)
        deadline = time.monotonic() + 5
        while not manifest.parts("s") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert manifest.read("s").num_rows == 1, "a lone row is committed after the interval"
    with ManifestWriter(manifest, seconds=60, rows=3) as writer:
        writer.add("s", [row("b"), row("c"), row("d")], SCHEMA)
        assert manifest.read("s").num_rows == 4, "a full buffer is committed at once"
        writer.add("s", [row("e")], SCHEMA)
    assert manifest.read("s").num_rows == 5, "leaving commits the rest"


def test_rows_that_belong_together_share_a_part(manifest: Manifest) -> None:
    with ManifestWriter(manifest, seconds=60, rows=2) as writer:
        writer.add("s", [row(str(n)) for n in range(7)], SCHEMA)
    assert [pq.read_metadata(manifest.store.local_path(p)).num_rows for p in manifest.parts("s")] == [7]


def test_an_error_of_the_background_thread_reaches_the_run(manifest: Manifest) -> None:
    writer = ManifestWriter(manifest, seconds=0.05)
    with pytest.raises((TypeError, ValueError, Exception), match="int"), writer:
        writer.add("s", [row("a") | {"n": "not a number"}], SCHEMA)
        time.sleep(0.3)
        writer.add("s", [row("b")], SCHEMA)


def test_columns_must_have_a_type_that_parquet_knows() -> None:
    with pytest.raises(TypeError, match="cannot have the type"):
        arrow_type(complex)
    with pytest.raises(ValueError, match="manifest's own columns"):
        stage_schema({"status": str})
