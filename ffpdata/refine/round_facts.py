"""What the report of a round tells, gathered from where it lies."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from datetime import datetime

from ffpdata.core.stage import ModelSpec
from ffpdata.curate import verdicts
from ffpdata.curate.verdicts import Decision as Decided
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.refine import removal_results
from ffpdata.refine.comparison import Comparison
from ffpdata.refine.removal_results import RemovalResult
from ffpdata.refine.round import AFTER, BEFORE, REPORT, TRAINING, VALIDATION, Round, RoundState, now
from ffpdata.refine.round_report import RoundFacts, write_round_report
from ffpdata.training.finetune import LOSSES, SHEET
from ffpdata.training.losses import Loss

HOUR = 3600.0


def write(run: RunFolder, current: Round, state: RoundState, decisions: Mapping[str, Decided]) -> str:
    """Write the report of a round whose model is trained, and return its path in the run folder."""
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


def _table(current: Round, name: str, decisions: Mapping[str, Decided]) -> list[RemovalResult]:
    return removal_results.judged(current.table(name), decisions) if current.has(f"{name}.parquet") else []


def _comparison(current: Round) -> Comparison | None:
    return Comparison.from_dict(current.read_json("comparison.json")) if current.has("comparison.json") else None


def _losses(current: Round) -> list[Loss]:
    table = csv.DictReader(io.StringIO(current.store.read(current.path(LOSSES)).decode()))
    return [
        (int(row["step"]), float(row["loss"] or math.nan), float(row["held_out"]) if row["held_out"] else None)
        for row in table
    ]


def _cost(run: RunFolder, current: Round, spec: ModelSpec, after: Iterable[RemovalResult]) -> Iterable[tuple[str, str]]:
    made = current.read_json("lineage.json")
    gpus = (spec.resources and spec.resources.gpus) or 0.0
    unit = "GPU hours" if gpus else "hours of a CPU worker"
    yield "Training", f"{made['seconds'] * max(1, made['processes']) / HOUR:.2f} {unit}"
    after = list(after)
    seconds = sum(each.seconds for each in after)
    yield f"Making {len(after)} removals anew", f"{seconds * (gpus or 1) / HOUR:.2f} {unit}"
    pairs = {each.pair for each in after}
    with run.reading() as connection:
        holding = verdicts.read(connection)
    given = [each.seconds or 0.0 for pair in pairs for each in holding.get(pair, {}).values()]
    yield f"{len(given)} verdicts on them", f"{sum(given) / HOUR:.2f} hours of reviewers"
