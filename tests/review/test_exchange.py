import json
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
from ffpdata.review.exchange import export_verdicts, import_verdicts
from ffpdata.review.pairs import PairFilter

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
