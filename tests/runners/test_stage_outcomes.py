"""What a stage knows of earlier starts and of this one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ffpdata.core.stage import Item
from ffpdata.manifests.manifest import Manifest, ManifestWriter
from ffpdata.runners import stage_outcomes as ledger_module
from ffpdata.runners.execute import Outcome
from ffpdata.runners.stage_outcomes import Redo, StageOutcomes
from ffpdata.storage.store import Store
from tests import toys


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[ManifestWriter]:
    with ManifestWriter(Manifest(Store(tmp_path)), seconds=3600) as made:
        yield made


def ledger(writer: ManifestWriter, redo: Redo | None = None) -> StageOutcomes:
    return StageOutcomes(toys.End(), writer.manifest.store, writer, track="t", redo=redo)


def done(key: str, status: str = "ok") -> Outcome:
    children = [{"suffix": "", "source_id": "", "columns": {"score": 0.5}}] if status == "ok" else []
    return Outcome(status, key, children=children, started_at=1.0, worker="host:1")


def item(name: str, upstream: str = "u") -> Item:
    return Item(name, {"number": 1, "length": 5}, upstream=upstream)


def test_what_an_earlier_start_left(writer: ManifestWriter) -> None:
    before = ledger(writer)
    before.settle(item("a"), done("ka"), commit=True)
    before.settle(item("b"), done("kb", "rejected"), commit=True)
    for attempt in (1, 2):
        before.settle(item("c"), Outcome("failed", "kc", reason="Error", attempt=attempt), commit=True)
    writer.flush()
    now = ledger(writer)
    assert [now.maybe(key) for key in ("ka", "kb", "kc", "kd")] == [True, True, False, False]
    now.load([(item("a"), "ka"), (item("b"), "kb"), (item("x"), "ka")])
    assert now.known("ka") == done("ka")
    assert now.known("kb") == done("kb", "rejected")
    assert now.known("kc") is None
    assert now.held(item("a"), "ka")
    assert not now.held(item("a", "another"), "ka"), "the rows before it are others now"
    assert not now.held(item("x"), "ka"), "the row is another item's"
    assert now.attempts(item("c"), "kc") == 2
    assert now.attempts(item("c"), "ka") == 0


def test_what_is_to_be_done_anew_is_neither_known_nor_adopted(writer: ManifestWriter) -> None:
    before = ledger(writer)
    before.settle(item("a"), done("ka"), commit=True)
    before.settle(item("b"), done("kb", "rejected"), commit=True)
    writer.flush()
    now = ledger(writer, redo=lambda stage, outcome: outcome.status == "rejected")
    now.load([(item("a"), "ka"), (item("b"), "kb")])
    assert now.known("ka")
    assert not now.again("ka")
    assert now.known("kb") is None
    assert now.again("kb")
    now.remember(done("kb"))
    assert now.known("kb") == done("kb")
    assert not now.again("kb")


def test_whether_it_is_to_be_done_anew_is_asked_once(writer: ManifestWriter) -> None:
    """The answer may take a look at every file of an outcome."""
    before = ledger(writer)
    before.settle(item("a"), done("ka"), commit=True)
    writer.flush()
    asked: list[str] = []
    now = ledger(writer, redo=lambda stage, outcome: bool(asked.append(outcome.key)))
    now.load([(item("a"), "ka"), (item("x"), "ka")])
    assert not now.again("ka")
    assert now.known("ka")
    assert now.known("ka")
    assert asked == ["ka"]


def test_fresh_outcomes_that_left_the_memory_are_read_back(
    writer: ManifestWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "KEPT_OUTCOMES", 3)
    now = ledger(writer)
    for n in range(8):
        now.remember(done(f"k{n}"))
        now.settle(item(f"i{n}"), done(f"k{n}"), commit=True)
    assert writer.manifest.parts("end") == [], "the rows are in the writer's buffer"
    assert all(now.maybe(f"k{n}") for n in range(8))
    now.load([(item("other"), f"k{n}") for n in (0, 6)])
    assert now.known("k0") == done("k0")
    assert now.known("k6") == done("k6")
    for n in range(8, 12):
        now.remember(done(f"k{n}"))
        now.settle(item(f"i{n}"), done(f"k{n}"), commit=True)
    now.load([(item("other"), "k8"), (item("other"), "k1")])
    assert now.known("k8") == done("k8"), "also what came after the manifest was first read"
    assert now.known("k1") == done("k1")
    assert now.known("k2") is None, "it was not asked for"


def test_what_failed_is_not_remembered(writer: ManifestWriter) -> None:
    now = ledger(writer)
    now.remember(done("k", "failed"))
    assert not now.maybe("k")
    assert now.known("k") is None


def test_nothing_is_written_where_the_newest_row_says_the_same(writer: ManifestWriter) -> None:
    now = ledger(writer)
    [child] = now.settle(item("a"), done("k"), commit=False)
    assert child.values["score"] == 0.5
    assert child.upstream == "k"
    writer.flush()
    assert writer.manifest.parts("end") == []
