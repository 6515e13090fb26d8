"""Trying items again as a run was set up: failed ones, and on request rejected ones and those whose files are gone."""

from __future__ import annotations

from ffpdata.core.config import Pipeline
from ffpdata.core.errors import DamagedError, UsageError, nearest
from ffpdata.core.stage import Stage
from ffpdata.manifests.run_check import check_run
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import CURATE
from ffpdata.runners.finished_work import Redo
from ffpdata.runners.session import StartOptions, Status, start, status
from ffpdata.runners.task import Outcome


def retry(
    run: RunFolder,
    *,
    stage: str | None = None,
    reason: str | None = None,
    lost: bool = False,
    runner: str = "inline",
    quiet: bool = False,
) -> Status:
    """Start the newest pipeline of every track again, with its input, limit and stages as they were.

    Failed items are always tried again.

    Args:
        run: started before.
        stage: also items that this stage rejected.
        reason: also items that were rejected for this reason.
        lost: also outcomes whose files are gone or damaged; every file is read once before the start.
        runner: `inline` or `ray`.
        quiet: show no progress.

    Raises:
        UsageError: the run has no such stage, or no item with this reason, or curation decided it.
        FatalError: as `start`.
    """
    result = status(run)
    _check(result, stage, reason)
    files = _lost_files(run) if lost else frozenset()
    redo = _redo(stage, reason, files) if lost or stage or reason else None
    computed = 0
    for begun in run.latest().values():
        pipeline = Pipeline.model_validate(begun["pipeline"])
        only = begun.get("stages", "")
        work = StartOptions(runner=runner, limit=begun["limit"], stages=only, redo=redo, quiet=quiet)
        result = start(run, pipeline, begun["input"], work)
        computed += result.computed or 0
    result.computed = computed
    return result


def _check(before: Status, stage: str | None, reason: str | None) -> None:
    """Refuse a stage or a reason that the run has not, or that cannot be retried."""
    stages = {name: counts for name, counts in before.stages.items() if name != CURATE}
    known = {found for counts in stages.values() for found in counts["reasons"]}
    decided = set(before.stages[CURATE]["reasons"]) - known
    if stage == CURATE or reason in decided:
        option = f"--reason {reason!r}" if reason in decided else f"--stage {stage!r}"
        raise UsageError(f"{option}: curation decides anew at every start; change its settings and run again")
    if stage is not None and stage not in stages:
        raise UsageError(f"--stage {stage!r}: the run has no such stage{nearest(stage, stages)}")
    if reason is not None and reason not in known:
        raise UsageError(f"--reason {reason!r}: no item has it{nearest(reason, known)}")


def _lost_files(run: RunFolder) -> frozenset[str]:
    """Files of current rows that are gone or damaged.

    Raises:
        DamagedError: a manifest is damaged: which files there should be is not known.
    """
    report = check_run(run)
    if not report.ok and not report.lost:
        raise DamagedError("\n".join(report.problems))
    return frozenset(report.lost)


def _redo(stage: str | None, reason: str | None, lost: frozenset[str]) -> Redo:
    """Say which finished outcomes are computed again; failed ones are never taken as done."""

    def redo(tried: Stage, outcome: Outcome) -> bool:
        if stage not in (None, tried.name):
            return False
        if lost and not lost.isdisjoint(outcome.files(tried)):
            return True
        asked = (stage, reason) != (None, None)
        return asked and outcome.status == "rejected" and reason in (None, outcome.reason)

    return redo
