"""The rows of a run are the same in whatever order the outcomes come back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ffpdata.core.stage import Child, Item, Row, Stage
from ffpdata.manifests.manifest import Manifest, ManifestWriter, stage_schema
from ffpdata.manifests.views import connect, records
from ffpdata.runners import flow as flow_module
from ffpdata.runners.flow import Flow
from ffpdata.runners.progress import Progress
from ffpdata.runners.session import make_flow
from ffpdata.runners.task import Outcome, Task
from ffpdata.storage.store import Store


class Name(Stage):
    name, version = "name", 1
    reads = ("path",)
    writes = {"text": str}
    fan_out = True

    def expand(self, row: Row) -> list[Child]:
        """The content is the path without its folder."""
        text = row["path"].rsplit("/", 1)[1]
        return [Child(f"id-{text}", {"text": text}, source_id=f"id-{text}")]


class Shout(Stage):
    name, version = "shout", 1
    reads = ("text",)
    writes = {"loud": str}

    def process(self, row: Row) -> dict[str, Any]:
        return {"loud": row["text"].upper()}


class Length(Stage):
    """Reads nothing: the same question for every item."""

    name, version = "length", 1
    reads = ()
    writes = {"length": int}

    def process(self, row: Row) -> dict[str, Any]:
        return {"length": 1}


STAGES = ("name", "shout", "length")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[ManifestWriter]:
    with ManifestWriter(Manifest(Store(tmp_path)), seconds=3600) as made:
        yield made


def inputs(*texts: str) -> list[Item]:
    return [Item(f"input/{n}", {"path": f"/{n}/{text}"}) for n, text in enumerate(texts)]


def make(writer: ManifestWriter, items: list[Item], **options: Any) -> Flow:
    store = writer.manifest.store
    return make_flow([Name(), Shout(), Length()], items, writer, Progress(store, quiet=True), track="t", **options)


def answer(flow: Flow, task: Task, status: str = "ok") -> Outcome:
    stage, made = flow.stages[task.stage], Outcome(status, task.key, started_at=1.0, worker="w:1")
    if status == "ok":
        row = Row(task.item.values)
        made.children = stage.expand(row) if stage.fan_out else [Child("", stage.process(row))]
    return made


def drive(flow: Flow, draw: random.Random | None = None) -> list[Task]:
    """Take and finish tasks, in a random order where asked for; returns those that were computed."""
    computed: list[Task] = []
    flying: list[Task] = []
    flow.feed()
    while not flow.ended():
        for number in range(len(flow.stages)):
            while flow.resolve(number):
                pass
            flying += flow.take(number, 100)
        if not flying:
            continue
        task = flying.pop(draw.randrange(len(flying)) if draw else 0)
        computed.append(task)
        flow.finish(task, answer(flow, task))
    return computed


def rows(writer: ManifestWriter, sql: str) -> list[dict[str, Any]]:
    writer.flush()
    with connect(writer.manifest.store, {"t": STAGES}) as connection:
        return records(connection, sql)


@pytest.mark.parametrize(
    ("arrived", "finished", "items"),
    [
        ([0], 0, 1.0),
        ([5], 0, 1.0),  # none is through the first stage: nothing is known
        ([5, 4], 4, 1.0),
        ([5, 4, 8], 4, 2.0),
        ([5, 4, 8, 2], 4, 0.5),  # measured: gates before it
        ([5, 4, 8, 0, 0], 4, 2.0),  # behind a fan-out
    ],
)
def test_how_many_items_come_to_a_stage(arrived: list[int], finished: int, items: float) -> None:
    assert flow_module.load(arrived, finished) == items


@pytest.mark.parametrize("seed", range(8))
def test_of_two_equal_inputs_the_first_counts_whichever_is_done_first(writer: ManifestWriter, seed: int) -> None:
    items = inputs("a", "b", "a", "c", "b", "a", "d")
    drive(make(writer, items), random.Random(seed))
    found = {r["entered_id"]: r["item_id"] for r in rows(writer, "select * from name where status = 'ok'")}
    assert found == {"input/0": "id-a", "input/1": "id-b", "input/3": "id-c", "input/6": "id-d"}
    reasons = rows(writer, "select distinct status, reason, error from name where entered_id = 'input/5'")
    assert [(r["status"], r["reason"]) for r in reasons] == [("rejected", "duplicate")]
    assert reasons[0]["error"].startswith("the run already has id-a")
    assert rows(writer, "select count(*) as n from items where status = 'ok'") == [{"n": 4}]


@pytest.mark.parametrize("seed", range(3))
def test_equal_keys_are_computed_once(writer: ManifestWriter, seed: int) -> None:
    flow = make(writer, inputs(*"abcdef"))
    computed = drive(flow, random.Random(seed))
    assert [task.stage for task in computed].count(2) == 1
    assert rows(writer, "select count(*) as n, count(distinct key) as k from length") == [{"n": 6, "k": 1}]


def test_who_waits_for_a_question_that_failed_asks_it_himself(writer: ManifestWriter) -> None:
    flow = make(writer, inputs(*"abc"))
    flow.feed()
    for number in range(2):
        for task in flow.take(number, 9):
            flow.finish(task, answer(flow, task))
    assert flow.open(2) == 3
    for left in (2, 1, 0):
        [task] = flow.take(2, 9)
        assert flow.waiting(2) == 0
        flow.finish(task, answer(flow, task, "failed"))
        assert flow.open(2) == left
    assert flow.ended()
    assert rows(writer, "select count(*) as n from length where status = 'failed'") == [{"n": 3}]


def test_the_next_start_takes_up_what_is_open(writer: ManifestWriter) -> None:
    flow = make(writer, inputs(*"abcd"))
    flow.feed()
    for task in flow.take(0, 2) + flow.take(1, 1):
        flow.finish(task, answer(flow, task))
    writer.flush()
    computed = drive(make(writer, inputs(*"abcd")), random.Random(1))
    assert sorted((task.stage, task.item.item_id) for task in computed if task.stage < 2) == [
        (0, "input/2"),
        (0, "input/3"),
        (1, "id-a"),
        (1, "id-b"),
        (1, "id-c"),
        (1, "id-d"),
    ]
    writer.flush()
    assert drive(make(writer, inputs(*"abcd"))) == []
    assert rows(writer, "select item_id, key from shout_history group by all having count(*) > 1") == []


@pytest.mark.parametrize("batch", [1, 3, 8192])
def test_a_changed_last_stage_is_all_that_is_computed(
    writer: ManifestWriter, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(flow_module, "BATCH", batch)
    drive(make(writer, inputs(*"abcdefg")))
    monkeypatch.setattr(Length, "version", 2)
    writer.flush()
    computed = drive(make(writer, inputs(*"abcdefg")), random.Random(2))
    assert [task.stage for task in computed] == [2]
    assert rows(writer, "select count(*) as n from name_history") == [{"n": 7}], "what holds is not written again"
    assert rows(writer, "select count(*) as n from length") == [{"n": 7}]


def test_items_beyond_the_chosen_stages_stay_where_they_are(writer: ManifestWriter) -> None:
    items = inputs(*"abc")
    assert {task.stage for task in drive(make(writer, items, only=range(1)))} == {0}
    writer.flush()
    assert {task.stage for task in drive(make(writer, items, only=range(2, 3)))} == set(), "shout is not done yet"
    assert {task.stage for task in drive(make(writer, items, only=range(1, 2)))} == {1}
    writer.flush()
    assert {task.stage for task in drive(make(writer, items))} == {2}
    assert rows(writer, "select count(*) as n from items where status = 'ok'") == [{"n": 3}]


def test_tasks_that_were_not_tried_come_first_again(writer: ManifestWriter) -> None:
    flow = make(writer, inputs(*"abcd"))
    flow.feed(3)
    taken = flow.take(0, 2)
    flow.give_back(taken)
    assert [task.item.item_id for task in flow.take(0, 3)] == ["input/0", "input/1", "input/2"]
    assert [task.key for task in taken] == [Name().key_of(item.values) for item in inputs(*"ab")]
    assert not flow.exhausted
    assert flow.feed() == 1
    assert flow.exhausted


def test_the_next_task_of_an_item_is_found_among_those_that_came_last(writer: ManifestWriter) -> None:
    flow = make(writer, inputs(*"abcd"))
    flow.feed()
    for task in flow.take(0, 4):
        flow.finish(task, answer(flow, task))
    found = flow.next_of("id-b", 1)
    assert found is not None
    assert flow.take_this(found).item.item_id == "id-b"
    assert flow.next_of("id-b", 1) is None
    assert flow.next_of("id", 1) is None
    assert [task.item.item_id for task in flow.take(1, 9)] == ["id-a", "id-c", "id-d"]
    assert flow.waiting(1) == 0


def test_a_redone_outcome_replaces_the_row_of_every_item_with_its_key(writer: ManifestWriter) -> None:
    flow = make(writer, inputs(*"abc"))
    flow.feed()
    for number, status in ((0, "ok"), (1, "ok"), (2, "rejected")):
        for task in flow.take(number, 9):
            flow.finish(task, answer(flow, task, status))
    assert rows(writer, "select status, count(*) as n from length group by 1") == [{"status": "rejected", "n": 3}]
    drive(make(writer, inputs(*"abc"), redo=lambda stage, outcome: outcome.status == "rejected"))
    assert rows(writer, "select status, count(*) as n from length group by 1") == [{"status": "ok", "n": 3}]


def test_a_row_that_an_interrupted_redo_left_behind_is_replaced_by_the_next_start(writer: ManifestWriter) -> None:
    """Two items have one question; its second answer was committed for the first of them alone."""
    drive(make(writer, inputs(*"ab")))
    writer.flush()
    old = rows(writer, "select * from length_history where entered_id = 'id-a'")[0]
    new = old | {"started_at": old["started_at"].replace(year=2030), "status": "rejected", "reason": "too_long"}
    new = {name: value for name, value in new.items() if name not in ("part", "part_row")}
    writer.manifest.append("length", [new], stage_schema(Length.writes))
    drive(make(writer, inputs(*"ab"), redo=lambda stage, outcome: False))
    assert rows(writer, "select entered_id, status, reason from length order by 1") == [
        {"entered_id": "id-a", "status": "rejected", "reason": "too_long"},
        {"entered_id": "id-b", "status": "rejected", "reason": "too_long"},
    ]
