from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from ffpdata.core.stage import Artifact, Child, Item, Stage
from ffpdata.manifests import manifest as manifest_module
from ffpdata.manifests.manifest import Manifest, column_tag, stage_schema
from ffpdata.manifests.views import scan
from ffpdata.runners.stage_index import StageIndex, TextSet, hashes
from ffpdata.runners.task import Outcome
from ffpdata.storage.store import Store


def test_only_keys_without_a_finished_row_are_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    rows = [{"key": "a", "status": "ok"}, {"key": "b", "status": "rejected"}, {"key": "c", "status": "failed"}]
    Manifest(store).append("segment", rows, stage_schema({}))
    Manifest(store).append("segment", [{"key": "d", "status": "ok"}], stage_schema({}))
    index = StageIndex(Manifest(store), "segment", {}, "t")
    assert [key for key in "abcdefg" if key not in index] == ["c", "e", "f", "g"]
    index.refresh()
    assert [key for key in "abcdefg" if key not in index] == ["c", "e", "f", "g"], "also with the places of the rows"
    assert index.has_places("abd")
    index.add("e")
    assert [key for key in "abcdefg" if key not in index] == ["c", "f", "g"]
    assert not index.has_places("ae"), "its row was not read"
    assert "a" not in StageIndex(Manifest(store), "other", {}, "t")


def test_parts_with_other_columns_are_read_together(tmp_path: Path) -> None:
    store = Store(tmp_path)
    manifest = Manifest(store)
    manifest.append("segment", [{"item_id": "a", "key": "1"}], stage_schema({}))
    manifest.append("segment", [{"item_id": "b", "key": "2", "area": 0.5}], stage_schema({"area": float}))
    manifest.append("segment", [{"item_id": "c", "key": "3"}], stage_schema({}))
    query = f"select item_id, area, part_row from {scan(store, manifest.parts('segment'))} order by part"
    with duckdb.connect() as connection:
        assert connection.execute(query).fetchall() == [("a", None, 0), ("b", 0.5, 0), ("c", None, 0)]
    assert len({column_tag(part) for part in manifest.parts("segment")}) == 2
    manifest.compact("segment")
    assert len(manifest.parts("segment")) == 1
    query = f"select item_id, area, part_row from {scan(store, manifest.parts('segment'))} order by part_row"
    with duckdb.connect() as connection:
        assert connection.execute(query).fetchall() == [("a", None, 0), ("b", 0.5, 1), ("c", None, 2)]


def test_a_set_of_texts_by_hash() -> None:
    texts = [f"{n:032x}" for n in (0, 1, 2**63 - 1 << 64, 2**63 << 64, 2**128 - 1)] + ["", "no hex at all"]
    found = TextSet(hashes(texts * 2, len(texts) * 2))
    assert found
    assert all(text in found for text in texts)
    assert not any(f"{n:032x}" in found for n in range(2, 1000))
    assert "later" not in found
    found.add("later")
    assert "later" in found
    assert not TextSet()
    assert "" not in TextSet()


def test_finished_keys_are_those_of_ok_and_rejected_rows(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keys = [f"{n:032x}" for n in (0, 2**64, (2**63 - 1) << 64, 2**63 << 64, 2**128 - 1)]
    rows = [{"key": key, "status": ("ok", "rejected")[n % 2]} for n, key in enumerate(keys)]
    rows += [{"key": "f" * 31 + "e", "entered_id": "a", "status": "failed", "attempt": n} for n in (1, 3, 2)]
    Manifest(store).append("segment", rows, stage_schema({}))
    Manifest(store).append("segment", [{"key": "1" * 32, "status": "ok", "area": 0.5}], stage_schema({"area": float}))
    found = StageIndex(Manifest(store), "segment", {}, "t")
    assert all(key in found for key in (*keys, "1" * 32))
    assert "f" * 31 + "e" not in found
    assert "f" * 31 + "d" not in found, "the whole key counts"
    assert found.attempts == {("a", "f" * 31 + "e"): 3}
    assert keys[0] not in StageIndex(Manifest(store), "other", {}, "t")


# --- outcomes by place ---


class Fan(Stage):
    name, version = "fan", 1
    writes = {"number": int, "facts": dict, "names": list[str], "copy": Artifact("txt")}
    fan_out = True


def outcome(key: str, at: float = 1.0, **changes: Any) -> Outcome:
    columns = [{"number": n, "facts": {"a": [n]}, "names": ["x", str(n)], "copy": f"artifacts/{n}"} for n in (0, 1)]
    children = [Child(str(n), columns[n]) for n in (0, 1)]
    made = Outcome("ok", key, children=children, started_at=at, seconds=0.5, worker="host:1", model="M@1")
    return replace(made, **changes)


@pytest.fixture
def fan(tmp_path: Path) -> tuple[Manifest, StageIndex]:
    store = Store(tmp_path)
    return Manifest(store), StageIndex(Manifest(store), "fan", Fan.writes, "t")


def commit(manifest: Manifest, *done: tuple[str, Outcome], track: str = "t", upstream: str = "u") -> None:
    rows = [row for item, its in done for row in its.rows(Fan(), Item(item, upstream=upstream), track)]
    manifest.append("fan", rows, stage_schema(Fan.writes))


def test_outcomes_come_back_as_they_were_committed(fan: tuple[Manifest, StageIndex]) -> None:
    manifest, index = fan
    facts = {"number": 7, "facts": {"b": 1.5}}
    made = {
        "k1": outcome("k1", 1753000000.123456),
        "k2": outcome("k2", status="rejected", reason="too_small", error="7 is below 8", facts=facts, children=[]),
        "k3": outcome("k3", children=[Child("own", {"number": 1}, "sha")]),
    }
    commit(manifest, *((f"item-{key}", its) for key, its in made.items()))
    index.refresh()
    assert index.outcomes(["k3", "k1", "nothing", "k2", "k1"]) == made
    assert index.outcomes([]) == {}


def test_the_newest_outcome_of_a_key_counts_once(fan: tuple[Manifest, StageIndex]) -> None:
    manifest, index = fan
    new = outcome("k", 2.0, children=outcome("k").children[:1])
    commit(manifest, ("a", outcome("k", 1.0)), ("b", new), ("b", new))
    commit(manifest, ("b", outcome("k", 3.0, status="failed", children=[])))
    commit(manifest, ("other", outcome("k", 1.5)), track="style")
    index.refresh()
    assert index.outcomes(["k"]) == {"k": outcome("k", 1.5)}, "whichever track it is from"
    commit(manifest, ("b", new))
    assert index.outcomes(["k"]) == {"k": outcome("k", 1.5)}, "parts are taken in when asked for"
    index.refresh()
    assert index.outcomes(["k"]) == {"k": new}


@pytest.mark.parametrize("merged", [False, True])
def test_a_few_rows_among_many(fan: tuple[Manifest, StageIndex], monkeypatch: pytest.MonkeyPatch, merged: bool) -> None:
    monkeypatch.setattr(manifest_module, "GROUP_ROWS", 7)
    manifest, index = fan
    for part in range(5):
        commit(manifest, *((f"item{n}", outcome(f"key{n}", n)) for n in range(10 * part, 10 * part + 10)))
    if merged:
        assert manifest.compact("fan") == 5
        [part] = manifest.parts("fan")
        assert pq.ParquetFile(manifest.store.local_path(part)).num_row_groups == 15
    index.refresh()
    chosen = ["key49", "key0", "key3", "key31"]
    assert index.outcomes(chosen) == {key: outcome(key, float(key[3:])) for key in chosen}


def test_what_the_newest_row_of_an_item_is(fan: tuple[Manifest, StageIndex]) -> None:
    manifest, index = fan
    commit(manifest, ("a", outcome("k1")), ("b", outcome("k1")))
    commit(manifest, ("a", outcome("k2")))
    commit(manifest, ("b", outcome("k9")), track="style")
    index.refresh()
    assert index.is_newest(outcome("k2"), Item("a", upstream="u"))
    assert not index.is_newest(outcome("k1"), Item("a", upstream="u"))
    assert not index.is_newest(outcome("k2"), Item("a", upstream="another"))
    assert not index.is_newest(outcome("k1"), Item("c", upstream="u"))
    assert index.is_newest(outcome("k1"), Item("b", upstream="u")), "the other track's rows are its own"
    assert not index.is_newest(outcome("k2", 2.0), Item("a", upstream="u")), "computed at another time"
    commit(manifest, ("a", outcome("k2", status="failed", children=[])), upstream="v")
    index.refresh()
    assert not index.is_newest(outcome("k2"), Item("a", upstream="u"))
