"""The loop: every item ends in a row, resume redoes nothing, a change redoes exactly what depends on it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ffpdata.core.errors import FatalError
from ffpdata.core.stage import Item, Stage
from ffpdata.manifests.manifest import ManifestWriter
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import connect, records
from ffpdata.runners import execute as execute_module
from ffpdata.runners.finished_work import Redo
from ffpdata.runners.inline import run_inline
from ffpdata.runners.interrupts import Stop
from ffpdata.runners.progress import Progress
from ffpdata.runners.session import make_flow
from tests import toys

STAGES = ["read", "upper", "fan", "odd", "end"]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    toys.Upper.calls.clear()
    toys.tries.clear()
    monkeypatch.setattr(execute_module, "RETRY_SECONDS", 0.01)


def stages(mark: str = "!") -> list[Stage]:
    return [toys.Read(), toys.Upper(toys.UpperSettings(mark=mark)), toys.Fan(), toys.Odd(), toys.End()]


def inputs(folder: Path, texts: list[str]) -> list[Item]:
    folder.mkdir(exist_ok=True)
    items = []
    for i, text in enumerate(texts):
        path = folder / f"{i}.txt"
        path.write_text(text)
        items.append(Item(f"input/{i}", {"path": str(path)}))
    return items


def go(run: RunFolder, items: list[Item], made: list[Stage] | None = None, redo: Redo | None = None) -> list[Item]:
    passed: list[Item] = []
    with ManifestWriter(run.manifest) as writer, Progress(run.store, quiet=True) as progress, Stop() as stop:
        flow = make_flow(made or stages(), items, writer, progress, track="t", redo=redo, passed=passed.append)
        run_inline(flow, run.store, stop)
    return passed


def rows(run: RunFolder, sql: str) -> list[dict[str, Any]]:
    return records(connect(run.store, {"t": STAGES}), sql)


def shape(run: RunFolder) -> list[tuple[Any, ...]]:
    """What holds now, without times."""
    found = rows(run, "select item_id, stage, status, reason, length, size, loud, copy, number, score from items")
    return sorted(tuple(str(v) for v in row.values()) for row in found)


def test_every_item_ends_in_a_row(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    items = inputs(tmp_path / "in", ["alpha", "reject", "raise", "busy", "flaky"])
    items.append(Item("input/gone", {"path": str(tmp_path / "gone")}))
    passed = go(run, items)
    assert sorted(i.item_id for i in passed) == ["id-alpha/0", "id-alpha/1", "id-flaky/0", "id-flaky/1"]
    ends = {r["item_id"]: (r["stage"], r["status"], r["reason"]) for r in rows(run, "select * from items")}
    assert ends == {
        "id-alpha/0": ("end", "ok", None),
        "id-alpha/1": ("end", "ok", None),
        "id-flaky/0": ("end", "ok", None),
        "id-flaky/1": ("end", "ok", None),
        "id-reject": ("upper", "rejected", "too_bad"),
        "id-raise": ("upper", "failed", "ZeroDivisionError"),
        "id-busy": ("upper", "failed", "gave_up"),
        "input/gone": ("read", "rejected", "missing_file"),
    }
    upper = {r["item_id"]: r for r in rows(run, "select * from upper")}
    assert upper["id-reject"]["length"] == 6, "what was measured before the decision is kept"
    assert "ZeroDivisionError: on purpose" in upper["id-raise"]["error"]
    assert upper["id-busy"]["attempt"] == 3
    assert toys.tries["flaky"] == 2
    sizes = {r["item_id"]: r["size"] for r in rows(run, "select item_id, size from items where status = 'ok'")}
    assert sizes == {"id-alpha/0": None, "id-alpha/1": 12, "id-flaky/0": None, "id-flaky/1": 12}
    assert [r["source_id"] for r in rows(run, "select distinct source_id from odd order by 1")] == [
        "id-alpha",
        "id-flaky",
    ]


def test_artifacts_are_named_by_content_and_nothing_else_is_left(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    go(run, inputs(tmp_path / "in", ["alpha"]))
    files = sorted(
        str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run" / "artifacts").rglob("*") if p.is_file()
    )
    kinds = [f.split("/")[1] for f in files]
    assert kinds.count("loud") == 1
    assert kinds.count("copy") == 2
    assert all(Path(f).stem[:2] == f.split("/")[2] for f in files)
    assert not any((tmp_path / "run" / ".tmp").glob("*"))


def test_a_second_start_computes_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    items = inputs(tmp_path / "in", ["alpha", "beta", "reject", "raise"])
    go(run, items)
    before, parts = shape(run), {s: len(run.manifest.parts(s)) for s in STAGES}
    toys.Upper.calls.clear()
    go(run, items)
    assert toys.Upper.calls == ["raise"], "only what failed is tried again"
    assert shape(run) == before
    assert {s: len(run.manifest.parts(s)) for s in STAGES} == {**parts, "upper": parts["upper"] + 1}
    assert rows(run, "select attempt from upper where status = 'failed'") == [{"attempt": 2}]


def test_a_moved_input_redoes_only_the_reading(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    go(run, inputs(tmp_path / "in", ["alpha", "beta"]))
    before = shape(run)
    toys.Upper.calls.clear()
    moved = [Item(f"input/m{i}", item.values) for i, item in enumerate(inputs(tmp_path / "moved", ["alpha", "beta"]))]
    go(run, moved)
    assert toys.Upper.calls == []
    assert set(before) <= set(shape(run))


def test_a_changed_setting_redoes_what_depends_and_going_back_is_free(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    items = inputs(tmp_path / "in", ["alpha", "beta"])
    go(run, items)
    first = shape(run)
    go(run, items, stages("?"))
    second = shape(run)
    assert toys.Upper.calls == ["alpha", "beta"] * 2
    assert first != second
    assert len(first) == len(second) == 4
    toys.Upper.calls.clear()
    go(run, items)
    assert toys.Upper.calls == []
    assert shape(run) == first, "the rows of the earlier setting hold again"


def test_an_unchanged_value_stops_the_redoing(tmp_path: Path) -> None:
    """`end` reads a number that `upper` writes the same again: its rows hold under the new lineage without work."""
    run = RunFolder(tmp_path / "run")
    items = inputs(tmp_path / "in", ["alpha"])
    go(run, items)
    before = rows(run, 'select distinct key from "end"')
    go(run, items, stages("?"))
    assert rows(run, 'select distinct key from "end"') == before
    assert rows(run, "select count(*) as n from items where status = 'ok'") == [{"n": 2}]


def test_an_outcome_whose_row_was_lost_is_adopted(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    items = inputs(tmp_path / "in", ["alpha", "reject"])
    go(run, items)
    before = shape(run)
    for stage in ("upper", "fan"):
        for part in run.manifest.parts(stage):
            run.store.remove(part)
    toys.Upper.calls.clear()
    go(run, items)
    assert toys.Upper.calls == []
    assert shape(run) == before
    [loud] = Path(run.store.root, "artifacts/loud").rglob("*.txt")
    loud.write_text("ALPHA?")
    for part in run.manifest.parts("upper"):
        run.store.remove(part)
    go(run, items)
    assert toys.Upper.calls == ["alpha"], "its file is not the one that was recorded"
    assert loud.read_text() == "ALPHA!"


def test_equal_content_is_computed_once_and_the_second_is_a_duplicate(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    items = inputs(tmp_path / "in", ["alpha", "alpha"])
    go(run, items)
    assert toys.Upper.calls == ["alpha"]
    assert {r["item_id"]: r["reason"] for r in rows(run, "select * from read")} == {
        "id-alpha": None,
        "input/1": "duplicate",
    }
    go(run, items[1:])
    assert rows(run, "select item_id from read where entered_id = 'input/1'") == [{"item_id": "id-alpha"}], (
        "once the first is gone from the input, the second takes its place"
    )


def test_retry_of_what_was_rejected(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    items = inputs(tmp_path / "in", ["alpha", "reject"])
    go(run, items)
    toys.Upper.calls.clear()
    go(run, items, redo=lambda stage, outcome: stage.name == "upper" and outcome.reason == "too_bad")
    assert toys.Upper.calls == ["reject"]


def test_a_fatal_error_stops_the_run_and_keeps_what_is_done(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(FatalError, match="the model is not there"):
        go(run, inputs(tmp_path / "in", ["alpha", "fatal", "beta"]))
    assert [r["item_id"] for r in rows(run, "select item_id from upper")] == ["id-alpha"]


def test_a_stage_that_returns_what_it_did_not_declare_fails_its_item(tmp_path: Path) -> None:
    class Sloppy(toys.End):
        def process(self, row):
            return {"scor": 1.0}

    class Blind(toys.End):
        def process(self, row):
            return {"score": float(len(row["text"]))}

    run = RunFolder(tmp_path / "run")
    items = inputs(tmp_path / "in", ["alpha"])
    for stage, message in ((Sloppy(), "does not declare"), (Blind(), "must declare it in `reads`")):
        assert go(run, items, [*stages()[:-1], stage]) == []
        assert message in rows(run, 'select error from "end" limit 1')[0]["error"]


KILLED = """
import sys
from pathlib import Path
from tests.runners import test_inline as t
from ffpdata.manifests.run_folder import RunFolder
from tests import toys
import time
slow = toys.Upper.process
def process(self, row):
    time.sleep(0.01)
    return slow(self, row)
toys.Upper.process = process
items = [t.Item(f"input/{i}", {"path": str(p)}) for i, p in enumerate(sorted(Path(sys.argv[2]).iterdir()))]
print("go", flush=True)
t.go(RunFolder(sys.argv[1]), items)
"""


@pytest.mark.slow
def test_kill_9_at_random_instants(tmp_path: Path) -> None:
    """Whatever the instant, the next start ends in the same rows and files as a run that was left alone."""
    texts = [f"text{i:02d}" for i in range(30)] + ["reject", "raise"]
    inputs(tmp_path / "in", texts)
    paths = sorted((tmp_path / "in").iterdir())
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    go(whole, [Item(f"input/{i}", {"path": str(p)}) for i, p in enumerate(paths)])
    draw = random.Random(7)
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(tmp_path / "in")], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(draw.uniform(0.05, 0.5))
            process.send_signal(signal.SIGKILL)
    go(killed, [Item(f"input/{i}", {"path": str(p)}) for i, p in enumerate(paths)])
    assert shape(killed) == shape(whole)

    def files(run: RunFolder) -> dict[str, bytes]:
        root = Path(run.store.root) / "artifacts"
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.txt")}

    assert files(killed) == files(whole)
    counts = rows(killed, 'select item_id, key, count(*) as n from "end" group by all having n > 1')
    assert counts == []
