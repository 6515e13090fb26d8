"""Plans from what a run measured: the finished run of both tracks, and a run that stopped half-way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import FatalError, UsageError
from ffpdata.core.pipeline import Pipeline
from ffpdata.core.stage import Artifact, Child, Reject, Row, Stage
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.planning.draws import interval
from ffpdata.planning.estimate import Request, make_plan
from ffpdata.planning.measured import effective_sources
from ffpdata.planning.pilot import read_pilot
from ffpdata.runners.session import StartOptions, start
from tests.conftest import Finished

STOP = {"after": 0}


class ReadNumber(Stage):
    """Names a source by its number, which is the text of its file."""

    name, version = "read_number", 1
    reads = ("path",)
    uses = ("root",)
    writes = {"number": int}
    fan_out = True

    def expand(self, row: Row) -> list[Child]:
        number = int(row.input(row["path"]).read_text())
        return [Child(f"source-{number:03d}", {"number": number}, source_id=f"source-{number:03d}")]


class TwoEdits(Stage):
    """Fans out."""

    name, version = "two_edits", 1
    reads = ("number",)
    writes = {"task": str, "edit": int}
    fan_out = True

    def expand(self, row: Row) -> list[Child]:
        return [Child(f"{task}/x", {"task": task, "edit": n}) for n, task in enumerate(("removal", "swap"))]


class MakeEdit(Stage):
    """Rejects by a hash of the number, takes longer for swaps, and ends the run where a test says so."""

    name, version = "make_edit", 1
    reads = ("number", "edit")
    writes = {"source_video": Artifact("txt"), "target_video": Artifact("txt"), "score": float}

    def process(self, row: Row) -> Mapping[str, Any]:
        if STOP["after"] and row["number"] >= STOP["after"]:
            raise FatalError("stopped on purpose")
        luck = (row["number"] * 7919 + row["edit"] * 104_729) % 97 / 97
        until = time.process_time() + 0.002 * (1 + row["edit"]) * (0.5 + luck)
        while time.process_time() < until:
            pass
        if luck < 0.3:
            raise Reject("unlucky", f"{luck:.2f}")
        files = {name: row.new_file(name) for name in ("source_video", "target_video")}
        for file in files.values():
            file.write_text("x" * 1000)
        return {**files, "score": luck}


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    folder = tmp_path / "numbers"
    folder.mkdir()
    for number in range(80):
        (folder / f"{number:03d}.mp4").write_text(str(number))
    return folder


def test_the_rest_of_a_half_finished_run_is_predicted(tmp_path: Path, numbers: Path) -> None:
    pipeline = Pipeline.of([ReadNumber, TwoEdits, MakeEdit], name="numbers", curate={"variants": "all"})
    run = RunFolder(tmp_path / "run")
    STOP["after"] = 40
    with pytest.raises(FatalError, match="on purpose"):
        start(run, pipeline, str(numbers), StartOptions(quiet=True))
    pilot = read_pilot(run, "numbers")
    assert pilot.left > 0
    before = sums(run)
    model = tmp_path / "numbers.yaml"
    model.write_text(
        "name: numbers\ntrack: numbers\ncurate: {variants: all}\nstages:\n"
        + "".join(f"  - {__name__}:{cls.__name__}\n" for cls in (ReadNumber, TwoEdits, MakeEdit))
    )
    plan = make_plan(Request([str(model)], run=tmp_path / "run", cpus=1))
    STOP["after"] = 0
    start(run, pipeline, str(numbers), StartOptions(quiet=True))
    after = sums(run)
    edits = plan.stages["make_edit"]
    for name, drawn in (("items", edits.items), ("passed", edits.passed)):
        low, high = interval(drawn, 0.9)
        assert low <= after[name] - before[name] <= high, name
    assert edits.passed[0] == pytest.approx(after["passed"] - before["passed"], rel=0.25)
    cpu = after["cpu"] - before["cpu"]
    assert edits.cpu_seconds[0] == pytest.approx(cpu, rel=0.4), "on a busy machine"
    assert plan.tracks[0].rest


def sums(run: RunFolder) -> dict[str, float]:
    with run.reading() as connection:
        query = "select count(*), count(*) filter (status = 'ok'), sum(cpu_seconds) from make_edit"
        found = connection.execute(query).fetchall()[0]
    return dict(zip(("items", "passed", "cpu"), map(float, found), strict=True))


@pytest.mark.slow
def test_a_finished_run_is_a_pilot(finished: Finished) -> None:
    run = RunFolder.existing(finished.run)
    pilot = read_pilot(run, "local")
    entered = {name: sum(s.sums["entered"].sum() for s in tasks.values()) for name, tasks in pilot.stages.items()}
    with run.reading() as connection:
        for name, count in entered.items():
            [(rows,)] = connection.execute(
                f"select count(distinct entered_id) from \"{name}\" where track = 'local'"
            ).fetchall()
            assert rows == count, name
        [(accepted,)] = connection.execute(
            "select count(*) from items where track = 'local' and status = 'ok'"
        ).fetchall()
    assert pilot.left == 0
    assert pilot.accepted == accepted
    again = make_plan(Request(["local_editing"], clips=pilot.sources, run=finished.run, cpus=2))
    for name, amounts in again.stages.items():
        assert amounts.items[0] == pytest.approx(entered[name], rel=0.001), "the same inputs are the same items"
    masks = pilot.stages["segment"]["removal"].sums
    assert masks["computed"].sum() == pytest.approx(masks["entered"].sum() / 2), "one mask for both edits of a clip"
    assert again.pairs[0] == pytest.approx(accepted, rel=0.001)
    assert again.tracks[0].measured[:3] == ["source", "ingest", "identify"]
    low, high = again.interval(again.pairs)
    assert low < high
    wide = make_plan(Request(["local_editing"], clips=1_000_000, run=finished.run, cpus=2))
    assert wide.pairs[0] == pytest.approx(accepted / pilot.sources * 1_000_000, rel=0.001)
    count = wide.halving()["local"]
    assert count is not None
    assert count == pytest.approx(4 * pilot.sources, rel=0.1), "four times the clips, half the interval"


@pytest.mark.slow
def test_another_model_is_not_what_was_measured(finished: Finished) -> None:
    plan = make_plan(Request(["local_editing"], clips=100, gpus=8, profile="gpu", run=finished.run))
    assert plan.stages["synthesize"].gpu_seconds[0] == pytest.approx(plan.stages["synthesize"].items[0] * 3150)
    assert any("synthesize" in line for line in plan.warnings if "not measured by the pilot" in line)
    assert "propose" in plan.tracks[0].measured


def test_what_is_no_pilot(tmp_path: Path, numbers: Path) -> None:
    pipeline = Pipeline.of([ReadNumber, TwoEdits, MakeEdit], name="numbers", curate={"variants": "all"})
    start(RunFolder(tmp_path / "run"), pipeline, str(numbers), StartOptions(quiet=True, limit=2))
    with pytest.raises(UsageError, match="has no track 'local'"):
        make_plan(Request(["local_editing"], clips=5, run=tmp_path / "run"))
    assert load_pipeline("local_editing").track == "local"


def test_what_is_seen_and_what_is_to_come_scatter_both() -> None:
    assert effective_sources(50, 50) == 25
    assert effective_sources(50, 1e9) == 50
    assert effective_sources(3, 1) == 1
