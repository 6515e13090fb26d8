"""Collects the facts of a round for its report: from the run, the round's files and the verdicts."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from datetime import datetime

from ffpdata.core.stage import ModelSpec
from ffpdata.curate import verdicts
from ffpdata.curate.verdicts import Decision as ReviewDecision
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.refine import removal_results
from ffpdata.refine.comparison import Comparison
from ffpdata.refine.removal_results import RemovalResult
from ffpdata.refine.round import AFTER, BEFORE, REPORT, TRAINING, VALIDATION, Round, RoundState, now
from ffpdata.refine.round_report import RoundFacts, write_round_report
from ffpdata.training.losses import Loss
from ffpdata.training.results import LOSSES, SHEET

HOUR = 3600.0


def write_report(run: RunFolder, current: Round, state: RoundState, decisions: Mapping[str, ReviewDecision]) -> str:
    """Write the report of a round whose model is trained.

    Args:
        run: the run.
        current: the round.
        state: as the report shows it.
        decisions: of the reviewers, by pair key.

    Returns:
        The report's path in the run folder.
    """
    plan, spec = current.plan, current.spec()
    ended = current.decision
    before, after = (_table(current, name, decisions) for name in (BEFORE, AFTER))
    facts = RoundFacts(
        number=current.number,
        state=state,
        when=datetime.fromisoformat(ended.at if ended else now()),
        model_before=plan.parent.label,
        model_after=spec.label,
        trained_on=len(current.table(TRAINING)),
        held_out=len(current.table(VALIDATION)),
        comparison=_comparison(current),
        losses=_losses(current),
        sheet=current.store.read(current.path(SHEET)) if current.has(SHEET) else None,
        before=before,
        after=after,
        cost=list(_cost(run, current, spec, after)),
    )
    write_round_report(run, current.path(REPORT), facts)
    return current.path(REPORT)


def _table(current: Round, name: str, decisions: Mapping[str, ReviewDecision]) -> list[RemovalResult]:
    return removal_results.with_decisions(current.table(name), decisions) if current.has(f"{name}.parquet") else []


def _comparison(current: Round) -> Comparison | None:
    return Comparison.from_dict(current.read_json("comparison.json")) if current.has("comparison.json") else None


def _losses(current: Round) -> list[Loss]:
    table = csv.DictReader(io.StringIO(current.store.read(current.path(LOSSES)).decode()))
    return [
        (int(row["step"]), float(row["loss"] or math.nan), float(row["held_out"]) if row["held_out"] else None)
        for row in table
    ]


def _cost(run: RunFolder, current: Round, spec: ModelSpec, after: Iterable[RemovalResult]) -> Iterable[tuple[str, str]]:
    lineage = current.read_json("lineage.json")
    gpus = (spec.resources and spec.resources.gpus) or 0.0
    unit = "GPU hours" if gpus else "hours of a CPU worker"
    yield "Training", f"{lineage['seconds'] * max(1, lineage['processes']) / HOUR:.2f} {unit}"
    after = list(after)
    seconds = sum(each.seconds for each in after)
    yield f"Making {len(after)} removals again", f"{seconds * (gpus or 1) / HOUR:.2f} {unit}"
    pairs = {each.pair for each in after}
    with run.reading() as connection:
        by_pair = verdicts.read(connection)
    times = [each.seconds or 0.0 for pair in pairs for each in by_pair.get(pair, {}).values()]
    yield f"{len(times)} verdicts on them", f"{sum(times) / HOUR:.2f} hours of reviewers"
