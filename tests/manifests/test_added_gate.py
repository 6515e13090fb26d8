"""A gate that is switched on in a finished run: what it keeps out is no pair, and switched off again it is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import ffpdata
from ffpdata.core.stage import ModelSpec, Reject, Row, Stage
from ffpdata.manifests.manifest import Manifest, stage_schema
from ffpdata.manifests.views import connect, current, pairs, records
from ffpdata.storage.store import Store
from tests import toys

TEXTS = ("alpha", "beta")


class Critic:
    """Keeps short texts out."""

    name, version = "critic", 1

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def inspect(self, text: str) -> int:
        if len(text) < 5:
            raise Reject("too_short", f"{len(text)} letters, at least 5")
        return len(text)

    def close(self) -> None:
        """Holds nothing."""


class Gate(Stage):
    """Asks the critic, where the profile has one."""

    name, version = "gate", 1
    reads = ("text",)
    writes = {"letters": int}
    models = optional_models = ("critic",)

    def applies(self, row: Mapping[str, Any]) -> bool:
        return "critic" in self.specs

    def setup(self) -> None:
        for role in self.specs:
            self.model(role)

    def process(self, row: Row) -> Mapping[str, Any]:
        return {"letters": self.model("critic").inspect(row["text"])}


@pytest.mark.slow
def test_what_an_added_gate_keeps_out_ends_there(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for text in TEXTS:
        (tmp_path / "in" / f"{text}.txt").write_text(text)
    toys.Upper.calls.clear()

    def ends(*, gate: bool) -> tuple[dict[str, tuple[str, str]], int]:
        models = {"critic": ModelSpec.of(Critic)} if gate else {}
        pipeline = ffpdata.Pipeline.of([toys.Read, Gate, toys.Upper], name="toys", models=models)
        run = ffpdata.run(pipeline, tmp_path / "in", tmp_path / "run")
        rows = run.sql("select item_id, stage, status from items").to_pylist()
        counts = run.result.stages["upper"]
        return {row["item_id"]: (row["stage"], row["status"]) for row in rows}, counts["ok"]

    passed = {f"id-{text}": ("upper", "ok") for text in TEXTS}
    assert ends(gate=False) == (passed, 2)
    gated = passed | {"id-beta": ("gate", "rejected")}
    for _ in range(2):
        assert ends(gate=True) == (gated, 1)
    for _ in range(2):
        assert ends(gate=False) == (passed, 2)
    assert ends(gate=True) == (gated, 1)
    assert sorted(toys.Upper.calls) == sorted(TEXTS), "nothing was made anew"


def test_rows_behind_the_one_that_ended_an_item_are_history(tmp_path: Path) -> None:
    store, schema = Store(tmp_path), stage_schema({"n": int})
    base = {"track": "t", "attempt": 1, "seconds": 1.0, "status": "ok"}
    rows = [
        *({"stage": "first", "item_id": item, "key": f"f-{item}", "upstream": ""} for item in "abc"),
        *({"stage": "last", "item_id": item, "key": f"l-{item}", "upstream": f"f-{item}"} for item in "abc"),
        {"stage": "gate", "item_id": "a", "key": "g-a", "upstream": "f-a", "status": "rejected"},
        {"stage": "gate", "item_id": "b", "key": "g-b", "upstream": "f-b", "status": "failed"},
        {"stage": "gate", "item_id": "c", "key": "g-c", "upstream": "f-c"},
        {"stage": "last", "item_id": "c", "key": "l-c", "upstream": "g-c"},
    ]
    for row in rows:
        Manifest(store).append(row["stage"], [base | row | {"entered_id": row["item_id"]}], schema)
    tracks = {"t": ["first", "gate", "last"]}

    def ends(**more: Any) -> dict[str, tuple[str, str]]:
        with connect(store, tracks, **more) as connection, current(store, tracks, **more) as counted:
            found = records(connection, "select item_id, stage, status from items")
            now = counted.execute(
                "select stage, count(*) from _now join _stages using (number) group by all"
            ).fetchall()
            for stage, count in now:
                assert connection.execute(f"select count(*) from {stage}").fetchone() == (count,)
        return {row["item_id"]: (row["stage"], row["status"]) for row in found}

    assert ends() == {"a": ("gate", "rejected"), "b": ("gate", "failed"), "c": ("last", "ok")}
    assert ends(idle={"t": ["gate"]}) == dict.fromkeys("abc", ("last", "ok"))


def test_an_item_is_finished_before_stages_that_pass_everything(tmp_path: Path) -> None:
    store, tracks = Store(tmp_path), {"t": ["first", "words"]}
    row = {
        "stage": "first",
        "item_id": "a",
        "entered_id": "a",
        "key": "f",
        "upstream": "",
        "status": "ok",
        "track": "t",
    }
    Manifest(store).append("first", [row | {"attempt": 1, "seconds": 1.0}], stage_schema({"n": int}))
    for idle, state, count in (({}, "pending", 0), ({"t": ["words"]}, "ok", 1)):
        with connect(store, tracks, idle=idle) as connection, current(store, tracks, idle=idle) as counted:
            assert records(connection, "select status from items") == [{"status": state}]
            assert pairs(counted, tracks, idle=idle) == count
