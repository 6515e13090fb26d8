"""The rows that hold now, counted fast, are those that the views show."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ffpdata.core.errors import FatalError
from ffpdata.manifests.manifest import Manifest, stage_schema
from ffpdata.manifests.views import CURATE, about_manifests, connect, current, pairs, readable, records
from ffpdata.storage.store import Store

TRACKS = {"t": ["first", "fan", "last"], "other": ["first", "last"]}
SCHEMA = stage_schema({"n": int})


def row(stage: str, item: str, key: str, upstream: str = "", **changes: Any) -> dict[str, Any]:
    made = {"item_id": item, "entered_id": item, "track": "t", "stage": stage, "key": key, "upstream": upstream}
    return made | {"status": "ok", "attempt": 1, "seconds": 1.0} | changes


def append(store: Store, *rows: dict[str, Any]) -> None:
    """One part per row."""
    manifest = Manifest(store)
    for one in rows:
        manifest.append(one["stage"], [one], SCHEMA)


def counted(store: Store) -> Counter[tuple[Any, ...]]:
    with current(store, TRACKS) as connection:
        found = connection.execute(
            "select track, stage, entered_id, status, reason from _now join _stages using (number)"
        )
        return Counter(found.fetchall())


def ends(store: Store) -> dict[str, tuple[str, str]]:
    with connect(store, TRACKS) as connection:
        found = records(connection, "select item_id, stage, status from items where track = 't'")
    return {one["item_id"]: (one["stage"], one["status"]) for one in found}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_row_holds_while_what_it_came_from_holds(store: Store) -> None:
    append(store, row("first", "a", "f1"), row("fan", "a", "g1", "f1"), row("last", "a", "l1", "g1"))
    assert ends(store) == {"a": ("last", "ok")}
    append(store, row("first", "a", "f2"))
    assert ends(store) == {"a": ("first", "pending")}
    append(store, row("fan", "a", "g1", "f2"))
    assert ends(store) == {"a": ("last", "ok")}, "the fan's answer is the same: what followed holds again"
    append(store, row("fan", "a", "g3", "f2", status="failed", reason="Error"))
    assert ends(store) == {"a": ("fan", "failed")}


def test_there_and_back_again(store: Store) -> None:
    """Setting 1, then 2 half-way, then 1: going back commits the earlier rows anew, and they hold."""
    append(store, row("first", "a", "f1"), row("fan", "a", "g1", "f1"), row("last", "a", "l1", "g1"))
    append(store, row("fan", "a", "g2", "f1"))
    assert ends(store) == {"a": ("fan", "pending")}
    append(store, row("fan", "a", "g1", "f1"))
    assert ends(store) == {"a": ("last", "ok")}


def test_children_of_one_outcome_hold_together(store: Store) -> None:
    first = row("first", "a", "f")
    append(store, first)
    both = [row("fan", f"a/{n}", "g", "f", entered_id="a", started_at=1) for n in (0, 1)]
    Manifest(store).append("fan", both, SCHEMA)
    assert set(ends(store)) == {"a/0", "a/1"}
    Manifest(store).append("fan", [both[0] | {"started_at": 2}], SCHEMA)
    assert set(ends(store)) == {"a/0"}, "of the newest outcome alone"


def test_curation_has_the_last_word(store: Store) -> None:
    for n in (1, 2, 3):
        append(store, row("first", f"a{n}", f"f{n}"), row("last", f"a{n}", f"l{n}", f"f{n}"))
    append(
        store, row(CURATE, "a1", "c1", "l1", status="rejected", reason="near_duplicate"), row(CURATE, "a2", "c2", "l2")
    )
    with current(store, TRACKS) as connection:
        assert pairs(connection, TRACKS) == 2


def test_parts_whose_own_columns_differ_in_type(store: Store) -> None:
    Manifest(store).append("first", [row("first", "a", "f") | {"n": 1}], SCHEMA)
    Manifest(store).append("first", [row("first", "b", "f") | {"n": "one"}], stage_schema({"n": str}))
    assert {key[2] for key in counted(store)} == {"a", "b"}


def test_an_empty_run_folder(store: Store) -> None:
    assert counted(store) == Counter()
    with current(store, {}) as connection:
        assert pairs(connection, {}) == 0
    with connect(store) as connection:
        assert records(connection, f'select count(*) as n from "{CURATE}_history"') == [{"n": 0}]


@pytest.mark.parametrize("seed", range(6))
def test_counts_are_those_of_the_views(store: Store, seed: int) -> None:
    """Whatever lies in the manifests, in whatever parts."""
    draw = random.Random(seed)
    manifest = Manifest(store)
    for number in range(40):
        stage = draw.choice(["first", "fan", "last", CURATE])
        rows = []
        for _ in range(draw.randrange(1, 8)):
            item = draw.choice("abc")
            upstream = "" if stage == "first" else draw.choice(["first", "fan", "last"]) + draw.choice("12")
            rows.append(
                row(
                    stage,
                    f"{item}/{draw.randrange(2)}" if stage == "fan" else item + draw.choice(["", "/0", "/1"]),
                    stage + draw.choice("12"),
                    upstream,
                    entered_id=item if stage == "fan" else item + draw.choice(["", "/0", "/1"]),
                    track=draw.choice(["t", "t", "other"]),
                    started_at=draw.randrange(3),
                    status=draw.choice(["ok", "ok", "ok", "rejected", "failed"]),
                    reason=draw.choice([None, "dark"]),
                    seconds=draw.random(),
                )
            )
        manifest.append(stage, rows, SCHEMA if draw.random() < 0.7 else stage_schema({"n": int, "more": str}))
        if number == 25:
            manifest.compact("fan")
    with connect(store, TRACKS) as connection:
        seen: Counter[tuple[Any, ...]] = Counter()
        for stage in ("first", "fan", "last", CURATE):
            for one in records(connection, f'select track, stage, entered_id, status, reason from "{stage}"'):
                seen[tuple(one.values())] += 1
        ok = records(connection, "select count(*) as n from items where status = 'ok'")[0]["n"]
    assert counted(store) == seen
    with current(store, TRACKS) as connection:
        assert pairs(connection, TRACKS) == ok


OLD = """
with rows as (
    select *, key || '@' || coalesce(epoch_us(started_at), 0) as outcome, part || lpad(part_row::text, 12, '0') as place
    from "{stage}_history" where track = '{track}'
), newest as (select entered_id, arg_max(outcome, place) as outcome from rows group by entered_id)
select r.* from rows r join newest using (entered_id, outcome) where (upstream = '' or upstream in ({holding}))
and entered_id not in ({ended})
qualify row_number() over (partition by item_id order by place desc) = 1
"""


@pytest.mark.parametrize("seed", range(3))
def test_the_rule_written_out(store: Store, seed: int) -> None:
    """The same rows by texts, one stage after the other."""
    draw = random.Random(100 + seed)
    for stage, before in (("first", ""), ("fan", "first"), ("last", "fan")):
        for _ in range(12):
            item, key = draw.choice("abcd"), stage + draw.choice("123")
            upstream = before + draw.choice("123") if before else ""
            state = draw.choice(["ok", "ok", "rejected"])
            append(store, row(stage, item, key, upstream, started_at=draw.randrange(2), status=state))
    holding: set[str] = set()
    ended: set[str] = set()
    expected: Counter[tuple[Any, ...]] = Counter()
    with connect(store, TRACKS) as connection:
        for stage in TRACKS["t"]:
            keys, gone = (", ".join(f"'{name}'" for name in sorted(names)) or "''" for names in (holding, ended))
            for one in records(connection, OLD.format(stage=stage, track="t", holding=keys, ended=gone)):
                expected["t", stage, one["entered_id"], one["status"], one["reason"]] += 1
                if one["status"] == "ok":
                    holding.add(one["key"])
                else:
                    ended.add(one["item_id"])
    assert counted(store) == expected


# --- manifests that cannot be read ---


@pytest.mark.parametrize(
    "question", ["select count(*) from items", "select * from last", "select * from first_history"]
)
def test_a_merge_under_an_open_connection_is_an_error(store: Store, question: str) -> None:
    for item in "abc":
        append(store, row("first", item, f"f{item}"), row("last", item, f"l{item}", f"f{item}"))
    with pytest.raises(FatalError, match=r"part-.*is gone: the run was started again.*Try again"):  # noqa: SIM117
        with readable(store), connect(store, {"t": ["first", "last"]}) as connection:
            assert len(connection.execute("select * from items").fetchall()) == 3
            for stage in ("first", "last"):
                Manifest(store).compact(stage)
            connection.execute(question).fetchall()
    with connect(store, {"t": ["first", "last"]}) as connection:
        assert len(connection.execute("select * from items").fetchall()) == 3


def test_a_damaged_part_is_named(store: Store) -> None:
    append(store, row("first", "a", "f"))
    [part] = Manifest(store).parts("first")
    whole = store.read(part)
    store.write(part, whole[: len(whole) // 2])
    with pytest.raises(FatalError, match=f"the manifests of {store.root} cannot be read: .*{part}"), readable(store):
        counted(store)


def test_only_an_error_that_names_a_part_is_one_of_the_manifests(store: Store) -> None:
    append(store, row("first", "a", "f"))
    with connect(store, TRACKS) as connection:
        for query in ("selec", "select x from items", "select 'a'::int from items", "from read_parquet('/no/where')"):
            with pytest.raises(duckdb.Error) as caught:
                connection.execute(query).fetchall()
            assert not about_manifests(caught.value), query
    text = "s3://b/run/manifests/first/part-1-a-b.parquet: the object store has not answered"
    assert about_manifests(duckdb.Error(text)), "what a file system of ours raised"


def test_a_track_may_have_any_name(store: Store) -> None:
    append(store, row("first", "a", "f", track="it's"), row("it's", "a", "g", "f", track="it's"))
    with connect(store, {"it's": ["first", "it's"]}) as connection:
        assert records(connection, "select track, item_id, status from items") == [
            {"track": "it's", "item_id": "a", "status": "ok"}
        ]


def test_a_column_called_like_what_every_stage_has(store: Store) -> None:
    """`ingest` writes `source_seconds`, and so is called the time of the stage `source`, in one of the tracks."""
    manifest = Manifest(store)
    length = stage_schema({"source_seconds": float, "first_model": str, "n": int})
    append(store, row("source", "a", "s", seconds=0.25))
    manifest.append(
        "first", [row("first", "a", "f", "s") | {"source_seconds": 9.5, "first_model": "m", "n": 1}], length
    )
    other = row("first", "b", "g", track="other") | {"source_seconds": 8.0, "model": "x@1"}
    manifest.append("first", [other], length)
    with connect(store, {"t": ["source", "first"], "other": ["first"]}) as connection:
        shown = "item_id, n, source_seconds, first_source_seconds, first_model, first_first_model"
        assert connection.execute(f"select {shown} from items order by 1").fetchall() == [
            ("a", 1, 0.25, 9.5, None, "m"),
            ("b", None, None, 8.0, "x@1", None),
        ]
        assert [name for name in connection.view("items").columns if re.search(r"_\d+$", name)] == []
        assert connection.execute("select max(source_seconds) from first").fetchall() == [(9.5,)]


def test_what_is_no_stage_has_its_history_alone(store: Store) -> None:
    """An empty view `review` beside a full `review_history` would say that nobody reviewed anything."""
    for name in ("first", "last", "review", "inputs", "taken_out"):
        append(store, row(name, "a", name))
    with connect(store, {"t": ["first", "last"]}) as connection:
        views = {
            name for (name,) in connection.execute("select view_name from duckdb_views() where not internal").fetchall()
        }
        told = {name.removesuffix("_history") for name in views if name.endswith("_history")}
        assert told == {"first", "last", "review", "inputs", "taken_out", CURATE}
        assert {name for name in told if name in views} == {"first", "last", CURATE}
        for name in ("review", "inputs", "taken_out"):
            assert len(records(connection, f"from {name}_history")) == 1
            with pytest.raises(duckdb.CatalogException, match=f"{name} does not exist.*\n?.*{name}_history"):
                connection.execute(f"from {name}")
    with connect(store) as connection, pytest.raises(duckdb.CatalogException):
        connection.execute("from first")


def test_each_folder_is_listed_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    append(store, row("first", "a", "f"), row("last", "a", "l", "f"))
    listed: list[str] = []
    real = Store.list
    monkeypatch.setattr(Store, "list", lambda self, folder, *more: listed.append(folder) or real(self, folder, *more))
    with connect(store, TRACKS) as connection:
        assert len(connection.execute("select * from items").fetchall()) == 1
    assert sorted(listed) == ["manifests/first", "manifests/last"]
