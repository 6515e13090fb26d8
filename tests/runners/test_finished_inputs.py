"""Which inputs a resume does not walk again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from ffpdata.core.stage import Item, Stage
from ffpdata.manifests.manifest import INPUTS, ManifestWriter
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import connect, records
from ffpdata.runners import execute as execute_module
from ffpdata.runners.finished_work import Redo
from ffpdata.runners.inline import run_inline
from ffpdata.runners.interrupts import Stop
from ffpdata.runners.progress import Progress
from ffpdata.runners.session import make_flow
from ffpdata.runners.task import Outcome
from tests import toys

NAMES = ["read", "upper", "fan", "odd", "end"]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    toys.Upper.calls.clear()
    toys.tries.clear()
    monkeypatch.setattr(execute_module, "RETRY_SECONDS", 0.01)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def stages(mark: str = "!") -> list[Stage]:
    return [toys.Read(), toys.Upper(toys.UpperSettings(mark=mark)), toys.Fan(), toys.Odd(), toys.End()]


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return [write(tmp_path, number, text) for number, text in enumerate(["alpha", "beta", "gamma"])]


def write(folder: Path, number: int, text: str, **values: str) -> Item:
    path = folder / f"{number}.txt"
    path.write_text(text)
    return Item(f"input/{number}", {"path": str(path), **values})


def go(
    run: RunFolder,
    items: list[Item],
    mark: str = "!",
    *,
    redo: Redo | None = None,
    only: range | None = None,
    most: int | None = None,
) -> list[str]:
    """Start the run on the inputs, stop after `most` tasks, and return the inputs that were walked."""
    walked = []
    with ManifestWriter(run.manifest) as writer, Progress(run.store, quiet=True) as progress, Stop() as stop:
        flow = make_flow(stages(mark), items, writer, progress, track="t", only=only, redo=redo)
        feed = flow._items
        flow._items = (walked.append(item.item_id) or item for item in feed)

        def count(stage: str, outcome: Outcome) -> None:
            nonlocal most
            if most is not None:
                most -= 1
                if most <= 0:
                    raise KeyboardInterrupt

        progress.listeners.append(count)
        with suppress(KeyboardInterrupt):
            run_inline(flow, run.store, stop)
    return walked


def ends(run: RunFolder) -> dict[str, tuple[str, str]]:
    with connect(run.store, {"t": NAMES}) as connection:
        return {r["item_id"]: (r["stage"], r["status"]) for r in records(connection, "select * from items")}


ALL = ["input/0", "input/1", "input/2"]


def test_what_is_through_is_not_walked_again(run: RunFolder, items: list[Item]) -> None:
    assert go(run, items) == ALL
    before = ends(run)
    assert go(run, items) == []
    assert go(run, items[1:]) == []
    assert ends(run) == before
    rows = [row for row in run.manifest.read(INPUTS).to_pylist() if row["item_id"]]
    assert {row["item_id"]: row["stages"] for row in rows} == dict.fromkeys(ALL, sorted(NAMES))
    assert len(rows) == len(ALL)


def test_new_inputs_alone_are_walked(run: RunFolder, items: list[Item], tmp_path: Path) -> None:
    go(run, items)
    assert go(run, [write(tmp_path, 8, "delta"), *items, write(tmp_path, 9, "epsilon")]) == ["input/8", "input/9"]
    assert go(run, items) == []


def test_a_changed_input_is_walked_and_is_no_duplicate_of_itself(
    run: RunFolder, items: list[Item], tmp_path: Path
) -> None:
    go(run, items)
    before = ends(run)
    touched = Item("input/1", {**items[1].values, "fingerprint": "later"})
    assert go(run, [items[0], touched, items[2]]) == ["input/1"]
    assert ends(run) == before
    assert go(run, items) == ["input/1"], "and back: the newest row of an input counts"


def test_a_changed_plan_walks_all_and_so_does_going_back(run: RunFolder, items: list[Item]) -> None:
    go(run, items)
    before = ends(run)
    assert go(run, items, "?") == ALL
    assert go(run, items, "?") == []
    assert go(run, items) == ALL
    assert ends(run) == before
    assert go(run, items) == []


@pytest.mark.parametrize("most", [1, 2, 4, 7])
def test_a_plan_that_was_given_up_half_way(run: RunFolder, items: list[Item], most: int) -> None:
    """Rows of another setting may be the newest of an input that was through: it is walked, and the old ones hold."""
    go(run, items)
    before = ends(run)
    go(run, items, "?", most=most)
    toys.Upper.calls.clear()
    assert go(run, items) == ALL
    assert toys.Upper.calls == [], "nothing is computed on the way back"
    assert ends(run) == before


def test_a_retry_that_was_given_up_half_way(run: RunFolder, items: list[Item]) -> None:
    def redo(stage: Stage, outcome: Outcome) -> bool:
        return stage.name == "fan"

    go(run, items)
    before = ends(run)
    assert go(run, items, redo=redo, most=1) == ALL
    assert go(run, items) == ALL
    assert ends(run) == before


def test_a_deleted_manifest_is_written_anew_however_often_that_is_interrupted(
    run: RunFolder, items: list[Item]
) -> None:
    go(run, items)
    before = ends(run)
    for part in run.manifest.parts("end"):
        run.store.remove(part)
    assert go(run, items, most=2) == ALL
    assert run.manifest.parts("end")
    assert go(run, items) == ALL
    assert ends(run) == before
    assert go(run, items) == []


@pytest.mark.parametrize("stage", ["read", "fan", "end", INPUTS])
@pytest.mark.parametrize("merged", [False, True])
def test_any_part_may_be_deleted(run: RunFolder, items: list[Item], stage: str, *, merged: bool) -> None:
    """First, middle and last ones: the next start walks every input and writes the rows anew, once."""
    for count in (1, 2, 3):
        go(run, items[:count])
    if merged:
        for name in NAMES:
            assert run.manifest.compact(name) == 3
        go(run, [*items, write(Path(run.store.root).parent, 3, "delta")])
    before = ends(run)
    for number in range(len(run.manifest.parts(stage))):
        run.store.remove(run.manifest.parts(stage)[number])
        assert (ends(run) != before) is (stage != INPUTS)
        go(run, items)
        if merged:
            go(run, [*items, write(Path(run.store.root).parent, 3, "delta")])
        assert ends(run) == before
        assert go(run, items) == [], "what is mended is not looked for again"
        assert go(run, items, "?", most=1) == ALL
        assert go(run, items) == ALL, "the setting is back"


def test_a_stage_that_no_input_comes_to_need_not_have_a_manifest(run: RunFolder, tmp_path: Path) -> None:
    items = [write(tmp_path, 0, "reject")]
    go(run, items)
    assert run.manifest.parts("end") == []
    assert go(run, items) == []


def test_what_failed_is_walked_every_time(run: RunFolder, items: list[Item], tmp_path: Path) -> None:
    items.append(write(tmp_path, 3, "raise"))
    go(run, items)
    assert go(run, items) == ["input/3"]
    assert go(run, items) == ["input/3"]
    assert toys.Upper.calls.count("raise") == 3


def test_a_duplicate_is_walked_every_time(run: RunFolder, items: list[Item], tmp_path: Path) -> None:
    twin = write(tmp_path, 3, "beta")
    go(run, [*items, twin])
    assert go(run, [*items, twin]) == ["input/3"]
    with connect(run.store, {"t": NAMES}) as connection:
        reasons = records(connection, "select reason from read where entered_id = 'input/3'")
    assert reasons == [{"reason": "duplicate"}], "what is through and not walked counts as made"
    assert go(run, [items[0], items[2], twin]) == ["input/3"]
    assert ends(run)["id-beta/0"] == ("end", "ok")
    with connect(run.store, {"t": NAMES}) as connection:
        names = records(connection, "select item_id from read where entered_id = 'input/3'")
    assert names == [{"item_id": "id-beta"}], "the first is no longer in the input: the second takes its place"


def test_what_an_input_made_before_it_changed_is_free(run: RunFolder, items: list[Item], tmp_path: Path) -> None:
    go(run, items)
    changed = Item("input/1", {"path": write(tmp_path, 7, "delta").values["path"]})
    go(run, [items[0], changed, items[2]])
    assert go(run, [items[0], changed, items[2], write(tmp_path, 8, "beta")]) == ["input/8"]
    assert ends(run)["id-beta/1"] == ("end", "ok")
    with connect(run.store, {"t": NAMES}) as connection:
        assert records(connection, "select reason from read where entered_id = 'input/8'") == [{"reason": None}]


def test_stages_that_are_left_out_leave_inputs_open(run: RunFolder, items: list[Item]) -> None:
    go(run, items, only=range(2))
    assert run.manifest.stages() == [INPUTS, "read", "upper"]
    assert go(run, items, only=range(2, 5)) == ALL
    assert set(ends(run).values()) == {("end", "ok")}
    assert go(run, items) == []


def test_a_merged_manifest_tells_the_same(run: RunFolder, items: list[Item]) -> None:
    go(run, items, "?")
    go(run, items[:2])
    assert run.manifest.compact(INPUTS) > 1
    assert go(run, items) == ["input/2"]
