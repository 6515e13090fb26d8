import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ffpdata.cli import app
from ffpdata.core.errors import FatalError, UsageError
from ffpdata.curate import verdicts
from ffpdata.curate.verdicts import REVIEW, SCHEMA, Verdict
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.review.assignments import Assignments, GivenVerdict
from ffpdata.review.exchange import _from_json, _from_parquet, export_verdicts, import_verdicts
from ffpdata.review.pairs import PairFilter, ReviewPair

Make = Callable[[int], RunFolder]


def holding(run: RunFolder) -> dict[str, dict[str, Verdict]]:
    with run.connect() as connection:
        return verdicts.read(connection)


@pytest.fixture
def reviewed(make: Make) -> RunFolder:
    """Five pairs, of which four were judged: one of them by two people, one undone."""
    run = make(5)
    desk = Assignments(run, overlap=1)
    pairs = desk.lease("Ann", PairFilter(order="worst"), 5)
    desk.submit("Ann", pairs[0].key, GivenVerdict("accept", (), 1.5))
    desk.submit("Ann", pairs[1].key, GivenVerdict("reject", ("flicker", "artifacts"), 2.5))
    desk.submit("Ann", pairs[2].key, GivenVerdict("skip"))
    desk.submit("Ann", pairs[3].key, GivenVerdict("accept"))
    desk.submit("Ann", pairs[3].key, GivenVerdict("undo"))
    desk.lease("bob@example.org", PairFilter(order="worst"), 1)
    desk.submit("bob@example.org", pairs[0].key, GivenVerdict("reject", ("other",)))
    return run


@pytest.mark.parametrize("name", ["verdicts.parquet", "verdicts.json"])
def test_there_and_back_again(reviewed: RunFolder, tmp_path: Path, name: str) -> None:
    before = holding(reviewed)
    assert export_verdicts(reviewed, tmp_path / name) == 4
    for part in reviewed.manifest.parts(REVIEW):
        reviewed.store.remove(part)
    taken = import_verdicts(reviewed, tmp_path / name)
    assert (taken.new, taken.known, taken.problems) == (4, 0, [])
    assert {
        k: {n: (v.verdict, set(v.reasons), v.seconds) for n, v in given.items()} for k, given in before.items()
    } == {
        k: {n: (v.verdict, set(v.reasons), v.seconds) for n, v in given.items()}
        for k, given in holding(reviewed).items()
    }
    again = import_verdicts(reviewed, tmp_path / name)
    assert (again.new, again.known) == (0, 4)


def test_label_studio_gets_choices_and_every_pair(reviewed: RunFolder, tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    export_verdicts(reviewed, file)
    tasks = json.loads(file.read_text())
    assert len(tasks) == 5
    assert sorted(len(task["annotations"]) for task in tasks) == [0, 0, 1, 1, 2]
    (rejected,) = [
        annotation
        for task in tasks
        for annotation in task["annotations"]
        if annotation["result"][-1]["value"]["choices"] == ["flicker", "artifacts"]
    ]
    assert rejected["result"][0] == {
        "from_name": "verdict",
        "to_name": "video",
        "type": "choices",
        "value": {"choices": ["reject"]},
    }
    assert rejected["completed_by"] == {"email": "Ann"}
    assert all(Path(task["data"]["target"]).is_file() for task in tasks)


def test_what_cannot_be_taken_is_named_and_the_rest_is_taken(reviewed: RunFolder, tmp_path: Path) -> None:
    file = tmp_path / "verdicts.json"
    export_verdicts(reviewed, file)
    tasks = json.loads(file.read_text())
    tasks += [{"data": {"pair": "0" * 32, "item_id": "gone"}, "annotations": [tasks[0]["annotations"][0]]}]
    tasks += ["nonsense", {"data": {}}, {"annotations": []}]
    (empty, *_) = [task for task in tasks[:5] if not task["annotations"]]

    def annotation(*choices: str, by: object = 7, **more: object) -> dict[str, object]:
        value = {"from_name": "verdict", "value": {"choices": list(choices)}}
        return {"completed_by": by, "result": [value], **more}

    empty["annotations"] = [
        annotation("perhaps"),
        annotation(),
        annotation("accept", "reject"),
        annotation("reject"),
        annotation("accept", lead_time="long"),
        annotation("accept", created_at="yesterday"),
        annotation("accept", by={}),
        annotation("accept", by=3, lead_time=1.5, created_at="2026-01-02T03:04:05Z"),
    ]
    file.write_text(json.dumps(tasks))
    result = CliRunner().invoke(app, ["review", reviewed.store.root, "--import", str(file)])
    assert result.exit_code == 1
    assert "1 verdict taken, 4 known already, 10 refused" in result.output
    for text in ("(gone): there is no such pair", "verdict 'perhaps'", "0 verdicts", "2 verdicts", "needs a reason"):
        assert text in result.output
    assert sum(len(given) for given in holding(reviewed).values()) == 5


def test_a_parquet_file_is_checked_row_by_row(reviewed: RunFolder, tmp_path: Path) -> None:
    file = tmp_path / "verdicts.parquet"
    export_verdicts(reviewed, file)
    rows = pq.read_table(file).to_pylist()
    wrong = [
        {"verdict": None},
        {"verdict": "undo"},
        {"item_id": "gone"},
        {"verdict_reasons": ["nope"]},
        {"reviewer": None},
    ]
    pq.write_table(pa.Table.from_pylist([*rows, *(rows[1] | each for each in wrong)], schema=SCHEMA), file)
    taken = import_verdicts(reviewed, file)
    assert (taken.new, taken.known, len(taken.problems)) == (0, 4, 5)
    assert (
        taken.problems[2] == "verdicts.parquet: row 7 (gone): there is no such pair; it may have been made anew since"
    )


def test_files_that_are_none(reviewed: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="as \\.parquet or as Label Studio"):
        export_verdicts(reviewed, tmp_path / "verdicts.csv")
    for name, content in (("a.json", "{"), ("b.json", "{}"), ("c.parquet", "no"), ("missing.json", None)):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(FatalError, match=name):
            import_verdicts(reviewed, tmp_path / name)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "d.parquet")
    with pytest.raises(FatalError, match="lacks the columns"):
        import_verdicts(reviewed, tmp_path / "d.parquet")


def odd(desk: Assignments, pair: ReviewPair, **columns: object) -> dict[str, object]:
    """A row as an older release took it, or as somebody wrote it."""
    return desk._row(pair, Verdict("Eve", "accept")) | columns


def test_stored_rows_with_impossible_times_hinder_nothing(reviewed: RunFolder, tmp_path: Path) -> None:
    desk = Assignments(reviewed)
    pair = next(iter(desk.pairs.by_key.values()))
    place, field = SCHEMA.get_field_index("started_at"), SCHEMA.field("started_at")
    for name, time in {"One": -62_135_596_800, "Two": -(2**43), "Three": 2**43}.items():  # year 1; Python has no others
        table = pa.Table.from_pylist([odd(desk, pair, reviewer=name, started_at=None)], schema=SCHEMA)
        times = pa.array([time * 1_000_000], pa.int64()).cast(field.type)
        reviewed.manifest.append_table(REVIEW, table.set_column(place, field, times))
    assert {"One", "Two", "Three"} < set(Assignments(reviewed).progress()["reviewers"])
    for file in (tmp_path / "out.json", tmp_path / "out.parquet"):
        assert export_verdicts(reviewed, file) == 7
        taken = import_verdicts(reviewed, file)
        assert (taken.new, taken.known, taken.problems) == (0, 7, [])


def test_stored_rows_that_are_no_verdicts_do_not_count(reviewed: RunFolder) -> None:
    desk, before = Assignments(reviewed), holding(reviewed)
    pair = next(iter(desk.pairs.by_key.values()))
    wrong = [{"verdict": "perhaps"}, {"verdict": None}, {"reviewer": None}, {"reviewer": "Ann", "verdict": "no"}]
    reviewed.manifest.append(REVIEW, [odd(desk, pair, **columns) for columns in wrong], SCHEMA)
    assert holding(reviewed) == before
    assert Assignments(reviewed).progress()["reviewers"].keys() == {"Ann", "bob@example.org"}


def task(key: str, **annotation: object) -> dict[str, object]:
    result = [{"from_name": "verdict", "value": {"choices": ["accept"]}}]
    given = {"completed_by": 7, "result": result, **annotation}
    return {"data": {"pair": key, "item_id": "clip"}, "annotations": [given]}


WRONG: list[tuple[dict[str, object], str]] = [
    ({"created_at": "0001-01-01T00:00:00+14:00"}, "created_at: 0001-01-01T00:00:00+14:00 is not between 2000-01-01"),
    ({"created_at": "9999-12-31T23:59:59-14:00"}, "created_at: 9999-12-31T23:59:59-14:00 is not between"),
    ({"created_at": 5}, "created_at: 5 is no time"),
    ({"created_at": [1]}, "created_at: [1] is no time"),
    ({"created_at": "2026-13-01"}, "created_at: '2026-13-01' is no time"),
    ({"lead_time": 10**299}, "seconds must be in [0, 86400], got 1000"),
    ({"lead_time": 10**4000}, "seconds must be in [0, 86400], got inf"),
    ({"lead_time": float("nan")}, "seconds must be in [0, 86400], got nan"),
    ({"lead_time": True}, "lead_time: seconds must be a number, got True"),
    ({"completed_by": [1]}, "completed_by: must be a name or a number, got [1]"),
    ({"completed_by": {"id": 1.5}}, "completed_by: must be a name or a number, got 1.5"),
    ({"completed_by": "\ud800"}, "reviewer '\\ud800': 1 to 64 letters"),
    ({"result": None}, "result: must be a list, got None"),
    ({"result": ["x"]}, "result: must be a mapping, got 'x'"),
    ({"result": [{"from_name": []}]}, "result.from_name: must be a text, got []"),
    ({"result": [{"from_name": "verdict", "value": {"choices": [["accept"]]}}]}, "verdict: must be a text"),
    ({"result": [{"from_name": "verdict", "value": {"choices": ["a" * 10**6]}}]}, "verdict 'aaa"),
]  # fmt: skip


def test_a_field_that_cannot_be_is_named_with_its_value(reviewed: RunFolder, tmp_path: Path) -> None:
    key = next(iter(Assignments(reviewed).pairs.by_key))
    (tmp_path / "a.json").write_text(json.dumps([task(key, **annotation) for annotation, _ in WRONG]))
    before, taken = holding(reviewed), import_verdicts(reviewed, tmp_path / "a.json")
    assert (taken.new, len(taken.problems)) == (0, len(WRONG))
    for number, (problem, (_, message)) in enumerate(zip(taken.problems, WRONG, strict=True), 1):
        assert problem.startswith(f"a.json: task {number} (clip): {message}")
        assert len(problem) < 300
    assert holding(reviewed) == before


def test_deep_nesting_and_broken_columns_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(FatalError, match=r"deep\.json: not readable JSON \(lists or mappings lie too deep"):
        list(_from_json(tmp_path / "deep.json"))
    plain = {name: ["x"] for name in ("track", "item_id", "upstream", "reviewer")} | {"verdict": ["accept"]}
    for column, message in (
        ({"started_at": pa.array([2**62]).cast(pa.timestamp("us"))}, "started_at: a timestamp[us] that cannot be read"),
        ({"started_at": [1.5]}, "started_at: 1.5 is no time"),
        ({"started_at": ["1969-12-31"]}, "started_at: 1969-12-31T00:00:00+00:00 is not between"),
        ({"verdict_seconds": ["long"]}, "verdict_seconds: seconds must be a number, got 'long'"),
        ({"verdict_reasons": ["flicker"]}, "reasons: must be a list, got 'flicker'"),
        ({"item_id": [5]}, "item_id: must be a text, got 5"),
        ({"reviewer": [b"x"]}, "reviewer: must be a name or a number, got b'x'"),
    ):
        pq.write_table(pa.table(plain | column), tmp_path / "b.parquet")
        [problem] = _from_parquet(tmp_path / "b.parquet")
        assert isinstance(problem, str)
        assert problem.startswith("b.parquet: row 1")
        assert message in problem


def test_fuzzed_tasks_are_lines_and_what_holds_stays(reviewed: RunFolder, tmp_path: Path) -> None:
    export_verdicts(reviewed, tmp_path / "good.json")
    draw, before, file = random.Random(11), holding(reviewed), tmp_path / "bad.json"
    values: list[object] = [None, True, -1, 10**25, float("inf"), "", "\ud800", "undo", "0001-01-01", [], {}, [[1]]]
    tasks = []
    for _ in range(60):
        some = json.loads((tmp_path / "good.json").read_text())
        for _ in range(draw.randint(3, 9)):
            spoil(some, draw, values)
        tasks += some if isinstance(some, list) else [some]
    file.write_text(json.dumps(tasks))
    taken = import_verdicts(reviewed, file)
    assert len(taken.problems) > 100
    assert all(line.startswith("bad.json: task ") and len(line) < 400 for line in taken.problems)
    assert taken.known > 50, "what was left whole"
    assert {key: set(given) for key, given in before.items()}.items() <= {
        key: set(given) & set(before.get(key, ())) for key, given in holding(reviewed).items()
    }.items()


def test_broken_files_are_one_message(reviewed: RunFolder, tmp_path: Path) -> None:
    """Bits are flipped, bytes put in and ends cut off: the reader returns records and lines, or raises FatalError."""
    draw, ends = random.Random(12), Counter[str]()
    for name, read in (("v.json", _from_json), ("v.parquet", _from_parquet)):
        export_verdicts(reviewed, tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        for number in range(150):
            data, place = bytearray(whole), draw.randrange(len(whole))
            if number % 3:
                data[place] ^= 1 << draw.randrange(8)
            else:
                data[place : place + draw.choice([0, 1, len(data)])] = draw.choice([b"", b"[", b'"', b"9" * 5000])
            file = tmp_path / f"bad-{name}"
            file.write_bytes(data)
            try:
                list(read(file))
                ends[f"{name} read"] += 1
            except FatalError as err:
                ends[f"{name} refused"] += str(err).startswith(str(file))
    assert ends.total() == 300
    assert min(ends.values()) > 20, ends


def spoil(data: object, draw: random.Random, values: list[object]) -> None:
    """Put something else into one place of nested data."""
    while isinstance(data, (dict, list)) and data:
        name = draw.choice(sorted(data) if isinstance(data, dict) else range(len(data)))
        if draw.random() < 0.3 or not isinstance(data[name], (dict, list)) or not data[name]:  # type: ignore[index]
            data[name] = draw.choice(values)  # type: ignore[index]
            return
        data = data[name]  # type: ignore[index]
