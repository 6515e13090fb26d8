"""What drafts saved and lost, by a run of small stages that is then made in full: the truth is known."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ffpdata.core.errors import Reject
from ffpdata.core.pipeline import Pipeline
from ffpdata.core.stage import Artifact, Child, Row, Stage, StageSettings
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.report.cascade import Cascade, cascade, wilson
from ffpdata.report.costs import rates_of, track_cost
from ffpdata.runners.session import StartOptions, start
from ffpdata.stages.draft_check import chance

COUNT = 60


class ReadNumber(Stage):
    """Names a source by its number, the text of its file."""

    name, version = "read_number", 1
    reads, uses = ("path",), ("root",)
    writes = {"number": int}
    fan_out = True

    def expand(self, row: Row) -> list[Child]:
        number = int(row.input(row["path"]).read_text())
        return [Child(f"n{number:03d}", {"number": number}, source_id=f"n{number:03d}")]


class Drafts(Stage):
    """Costs next to nothing."""

    name, version = "draft", 1
    reads = ("number",)
    writes = {"draft_facts": dict}

    def process(self, row: Row) -> Mapping[str, Any]:
        return {"draft_facts": {"number": row["number"]}}


class AuditSettings(StageSettings):
    """As of `draft_check`."""

    audit: float = 0.4


class Checks(Stage):
    """A third of the drafts have a fault."""

    name, version = "draft_check", 1
    reads = ("number", "draft_facts")
    writes = {"draft_fault": str, "draft_audited": bool}
    Settings = AuditSettings

    def process(self, row: Row) -> Mapping[str, Any]:
        if row["number"] % 3:
            return {"draft_audited": False}
        if chance(row["number"]) < self.settings.audit:
            return {"draft_fault": "bad", "draft_audited": True}
        raise Reject("bad", "a third", {"draft_fault": "bad", "draft_audited": False})


class Full(Stage):
    """Costs much where the draft is bad; every fourth of these is good after all."""

    name, version = "full", 1
    reads = ("number",)
    writes = {"source_video": Artifact("txt"), "target_video": Artifact("txt"), "task": str}

    def process(self, row: Row) -> Mapping[str, Any]:
        burn(0.04 if row["number"] % 3 == 0 else 0)  # of a CPU's time a process sees hundredths
        if row["number"] % 3 == 0 and row["number"] % 4:
            raise Reject("no_pair", "as its draft said")
        files = {name: row.new_file(name) for name in ("source_video", "target_video")}
        for file in files.values():
            file.write_text(str(row["number"]))
        return {**files, "task": "removal"}


def burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def found_of(run: RunFolder, numbers: Path, audit: float) -> Cascade:
    stages = [ReadNumber, Drafts, (Checks, {"audit": audit}), Full]
    pipeline = Pipeline.of(stages, name="numbers", curate={"variants": "all"})
    start(run, pipeline, str(numbers), StartOptions(quiet=True))
    with run.reading() as connection:
        found = cascade(connection, "numbers", [entry.name for entry in pipeline.stages], rates_of(pipeline))
        again = track_cost(connection, pipeline, [entry.name for entry in pipeline.stages], found.accepted)
    assert again.unit == "CPU"
    assert again.hours["draft"] + again.hours["draft_check"] == pytest.approx(found.spent)
    assert again.per_pair == pytest.approx(sum(again.hours.values()) / found.accepted)
    return found


def test_an_audit_tells_what_the_rejected_edits_would_have_come_to(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers"
    numbers.mkdir()
    for number in range(COUNT):
        (numbers / f"{number:03d}.mp4").write_text(str(number))
    run = RunFolder(tmp_path / "run")
    told = found_of(run, numbers, 0.4)
    truth = found_of(run, numbers, 1.0)
    with run.reading() as connection:
        [(made,)] = connection.execute("select count(*) from draft_history").fetchall()
    assert made == COUNT, "another audit makes no draft anew"
    assert (told.drafts, told.faulty, told.by_fault) == (COUNT, COUNT // 3, {"bad": COUNT // 3})
    assert told.rejected + told.audited == told.faulty
    assert 2 <= told.audited < told.faulty, "the audit's draw is fixed"
    assert (truth.audited, truth.rejected, truth.good) == (COUNT // 3, 0, 5)
    low, high = told.lost_interval
    assert low <= truth.good - told.good <= high
    after = truth.unspent - told.unspent  # what those that were not audited cost in truth
    assert told.saved_interval is not None
    assert told.saved == pytest.approx(after - told.spent, rel=0.5), "on a busy machine"
    assert told.saved > 0


def test_without_an_audit_nothing_is_known_of_what_was_lost() -> None:
    found = Cascade(10, 4, 0, 0, 4, 6, 0.1, (1.0, 2.0), {"bad": 4})
    assert found.lost_interval == (0.0, 4.0)
    assert found.saved_interval is None
    assert found.saved == pytest.approx(4 * 1.5 - 0.1), "by what the others cost"


def test_wilson_is_the_published_interval() -> None:
    """Of 0 in 10 and 5 in 10, by the formula of Wilson (1927) at z = 1.96."""
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_run_without_drafts_has_no_cascade(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    file = tmp_path / "000.mp4"
    file.write_text("1")
    pipeline = Pipeline.of([ReadNumber, Full], name="numbers", curate={"variants": "all"})
    start(run, pipeline, str(file), StartOptions(quiet=True))
    with run.reading() as connection:
        assert cascade(connection, "numbers", ["read_number", "full"], rates_of(pipeline)) is None
