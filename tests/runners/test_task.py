"""An outcome comes back from its record as it was saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ffpdata.core.stage import Artifact, Child, Item, Stage
from ffpdata.runners.task import Outcome
from ffpdata.storage.digests import file_facts
from ffpdata.storage.store import Store


class Fan(Stage):
    name, version = "fan", 1
    writes = {"number": int, "copy": Artifact("txt")}
    fan_out = True


OUTCOME = Outcome(
    "ok",
    "abcd",
    children=[Child("0", {"number": 1, "copy": "artifacts/copy/0.txt"}), Child("own", {"number": 2}, "sha")],
    attempt=2,
    started_at=1753000000.123456,
    seconds=0.5,
    worker="host:1",
    model="M@1",
    notes={"tokens": 100},
    artifacts={"artifacts/copy/0.txt": {"bytes": 4, "sha256": "00"}},
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.mark.parametrize(
    "outcome",
    [OUTCOME, replace(OUTCOME, status="rejected", reason="too_small", error="7", facts={"number": 7}, children=[])],
    ids=["ok", "rejected"],
)
def test_a_record_tells_what_was_saved(store: Store, outcome: Outcome) -> None:
    assert Outcome.load(store, "abcd") is None
    outcome.save(store)
    assert Outcome.load(store, "abcd") == outcome
    assert store.list("artifacts/outcome/ab") == ["artifacts/outcome/ab/abcd.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"status": "ok", "key": "abcd", "children": [{"column": {}}]}'])
def test_a_record_of_another_form_is_none(store: Store, text: str) -> None:
    store.write("artifacts/outcome/ab/abcd.json", text.encode())
    assert Outcome.load(store, "abcd") is None


FILE = "artifacts/copy/0.txt"


def test_files_that_are_gone_or_damaged_are_named(store: Store, tmp_path: Path) -> None:
    assert OUTCOME.damaged(Fan(), store) == {FILE: "is gone"}
    store.write(FILE, b"zero")
    old = replace(OUTCOME, artifacts={})
    assert old.damaged(Fan(), store) == {}, "an outcome of an earlier release has no digest"
    known = replace(OUTCOME, artifacts={FILE: file_facts(tmp_path / FILE)})
    assert known.damaged(Fan(), store) == {}
    store.write(FILE, b"zerO")
    assert "sha256" in known.damaged(Fan(), store)[FILE]
    store.write(FILE, b"ze")
    assert known.damaged(Fan(), store) == {FILE: "is damaged: it has 2 bytes, 4 were written"}


def test_every_flipped_bit_of_a_record_is_noticed(store: Store) -> None:
    OUTCOME.save(store)
    path = "artifacts/outcome/ab/abcd.json"
    whole = store.read(path)
    for bit in range(0, 8 * len(whole), 13):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        store.write(path, bytes(changed))
        assert Outcome.load(store, "abcd") in (None, OUTCOME)


def test_children_go_on_under_their_parents_name_or_their_own() -> None:
    entered = Item("clip", {"number": 0, "other": "x", "copy": "old"}, source_id="of-clip")
    first, second = OUTCOME.items(Fan(), entered)
    assert (first.item_id, first.parent_id, first.source_id, first.upstream) == ("clip/0", "clip", "of-clip", "abcd")
    assert first.values == {"number": 1, "other": "x", "copy": "artifacts/copy/0.txt"}
    assert (second.item_id, second.parent_id, second.source_id) == ("own", "clip", "sha")
    assert second.values == {"number": 2, "other": "x"}, "a column that the stage left unset is unset"
