"""What a run knows of earlier starts and of this one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ffpdata.core.stage import Child, Item
from ffpdata.manifests.manifest import Manifest, ManifestWriter
from ffpdata.runners import finished_work as module
from ffpdata.runners.finished_work import FinishedWork, Redo
from ffpdata.runners.task import Outcome, Task
from ffpdata.storage.store import Store
from tests import toys


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[ManifestWriter]:
    with ManifestWriter(Manifest(Store(tmp_path)), seconds=3600) as made:
        yield made


def account(writer: ManifestWriter, redo: Redo | None = None) -> FinishedWork:
    return FinishedWork([toys.End()], writer, track="t", redo=redo)


def done(key: str, status: str = "ok") -> Outcome:
    children = [Child("", {"score": 0.5})] if status == "ok" else []
    return Outcome(status, key, children=children, started_at=1.0, worker="host:1")


def task(name: str, key: str, upstream: str = "u") -> Task:
    return Task(Item(name, {"number": 1, "length": 5}, upstream=upstream), key, 0)


def test_what_an_earlier_start_left(writer: ManifestWriter) -> None:
    before = account(writer)
    before.settle(task("a", "ka"), done("ka"), computed=True)
    before.settle(task("b", "kb"), done("kb", "rejected"), computed=True)
    for attempt in (1, 2):
        before.settle(task("c", "kc"), Outcome("failed", "kc", reason="Error", attempt=attempt), computed=True)
    writer.flush()
    now = account(writer)
    assert [now.may_be_done(task("a", key)) for key in ("ka", "kb", "kc", "kd")] == [True, True, False, False]
    tasks = [task("a", "ka"), task("b", "kb"), task("x", "ka"), task("c", "kc"), task("a", "ka", "another")]
    assert now.look_up(tasks) == [done("ka"), done("kb", "rejected"), done("ka"), None, done("ka")]
    first, _, other, _, moved = tasks
    assert first.committed
    assert not moved.committed, "the rows before it are others now"
    assert not other.committed, "the row is another item's"
    for name, key, attempts in (("c", "kc", 2), ("c", "ka", 0)):
        asked = task(name, key)
        now.may_be_done(asked)
        assert asked.attempt == attempts


def test_what_is_to_be_done_anew_is_neither_known_nor_adopted(writer: ManifestWriter) -> None:
    before = account(writer)
    before.settle(task("a", "ka"), done("ka"), computed=True)
    before.settle(task("b", "kb"), done("kb", "rejected"), computed=True)
    writer.flush()
    now = account(writer, redo=lambda stage, outcome: outcome.status == "rejected")
    tasks = [task("a", "ka"), task("b", "kb")]
    assert now.look_up(tasks) == [done("ka"), None]
    assert [one.adopt for one in tasks] == [True, False]
    now.keep(tasks[1], done("kb"))
    later = task("b", "kb")
    assert now.look_up([later]) == [done("kb")]
    assert later.adopt


def test_whether_it_is_to_be_done_anew_is_asked_once(writer: ManifestWriter) -> None:
    """The answer may take a look at every file of an outcome."""
    before = account(writer)
    before.settle(task("a", "ka"), done("ka"), computed=True)
    writer.flush()
    asked: list[str] = []
    now = account(writer, redo=lambda stage, outcome: bool(asked.append(outcome.key)))
    tasks = [task("a", "ka"), task("x", "ka")]
    assert now.look_up(tasks) == [done("ka")] * 2
    assert all(one.adopt for one in tasks)
    assert asked == ["ka"]


def test_fresh_outcomes_that_left_the_memory_are_read_back(
    writer: ManifestWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_OUTCOMES", 3)
    now = account(writer)

    def finish(number: int) -> None:
        mine = task(f"i{number}", f"k{number}")
        now.keep(mine, done(mine.key))
        now.settle(mine, done(mine.key), computed=True)

    for n in range(8):
        finish(n)
    assert writer.manifest.parts("end") == [], "the rows are in the writer's buffer"
    assert all(now.may_be_done(task("other", f"k{n}")) for n in range(8))
    assert now.look_up([task("other", f"k{n}") for n in (0, 6)]) == [done("k0"), done("k6")]
    for n in range(8, 12):
        finish(n)
    assert now.look_up([task("other", "k8"), task("other", "k1")]) == [done("k8"), done("k1")], (
        "also what came after the manifest was first read"
    )


def test_what_failed_is_not_remembered(writer: ManifestWriter) -> None:
    now = account(writer)
    now.keep(task("a", "k"), done("k", "failed"))
    assert not now.may_be_done(task("a", "k"))
    assert now.look_up([task("a", "k")]) == [None]


def test_nothing_is_written_where_the_newest_row_says_the_same(writer: ManifestWriter) -> None:
    now, mine = account(writer), task("a", "k")
    mine.committed = True
    [child] = now.settle(mine, done("k"), computed=False)
    assert child.values["score"] == 0.5
    assert child.upstream == "k"
    writer.flush()
    assert writer.manifest.parts("end") == []
