"""The refinement loop of removals (paper, section 3.3).

Accepted removals train the remover. The new remover makes every removal again, and nothing else is computed, because
only the keys of removals change. The round is compared with the one before on sources that no round trained on, and is
promoted if it is better. Each step is done once: a later call of `refine`, also after a kill, resumes the loop.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ffpdata.core.config import Pipeline
from ffpdata.core.errors import FatalError, UsageError
from ffpdata.core.keys import digest
from ffpdata.core.stage import ModelSpec, of_role
from ffpdata.curate.curation import current_settings
from ffpdata.curate.verdicts import Decision as ReviewDecision
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.refine import PROMOTED, round_facts
from ffpdata.refine.compare import Comparison, compare
from ffpdata.refine.removal_results import FILES, RemovalResult, read_decisions, read_results, with_decisions
from ffpdata.refine.round import (
    AFTER,
    BEFORE,
    REPORT,
    ROLE,
    TRAINING,
    VALIDATION,
    Round,
    RoundDecision,
    RoundPlan,
    RoundState,
    not_trained_on,
    now,
    panel,
    results_to_compare,
    rounds,
    unjudged_pairs,
    without_round_loras,
)
from ffpdata.refine.round_training import remove_training_files, train
from ffpdata.refine.settings import RefineSettings
from ffpdata.review.requests import request_verdicts
from ffpdata.runners.session import StartOptions, start
from ffpdata.storage.lock import run_lock
from ffpdata.training.finetune import check_trainable

LOCK = "refine.lock"
"""Lock by which one process at a time refines a run; the run's own lock is held only while removals are made."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class LoopStatus:
    """State of the loop.

    Attributes:
        round: number of the newest round; 0 before the first.
        state: of that round; before the first, `WAITING`.
        lines: text for the terminal.
        comparison: of the round's model with the old one; None where there is none yet.
        report: path of the round's report in the run folder; empty where there is none.
    """

    round: int
    state: RoundState
    lines: list[str] = field(default_factory=list)
    comparison: Comparison | None = None
    report: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON data."""
        comparison = self.comparison.to_dict() if self.comparison else None
        return vars(self) | {"state": self.state.name.lower(), "comparison": comparison}


@dataclass(frozen=True)
class LoopOptions:
    """How the loop works.

    Attributes:
        runner: `inline` or `ray`, for making the removals again.
        quiet: show no progress of that.
        folder: for the files that the training needs while it runs; None: in the run folder, if that is local.
        say: called with a line for each step.
    """

    runner: str = "inline"
    quiet: bool = False
    folder: Path | None = None
    say: Say = print


def refine(run: RunFolder, settings: RefineSettings, options: LoopOptions | None = None) -> LoopStatus:
    """Resume the loop up to the next point where reviewers are needed, or to the end of a round.

    Raises:
        ConfigError: the remover cannot be trained.
        FatalError: the run is not finished, or a step failed; finished steps are kept.
        RunLockedError: another process refines or writes this run.
    """
    options = options or LoopOptions()
    with run_lock(run.store, LOCK):
        begun = rounds(run.store)
        if not begun or begun[-1].decision is not None:
            new = _plan_round(run, settings, begun)
            if isinstance(new, LoopStatus):
                return new
            begun.append(new)
            options.say(f"Round {new.number}: trains on {len(new.table(TRAINING))} accepted removals")
        current = begun[-1]
        if not current.trained:
            train(run, current, options.folder, options.say, on_ray=options.runner == "ray")
        remove_training_files(current, options.folder)
        if not current.regenerated:
            options.say(f"Round {current.number}: makes every removal again")
            pipeline = _make_removals(run, current.plan.track, current.spec(), options)
            current.write_table(AFTER, read_results(run, pipeline))
        return _decide(run, begun, settings, options)


def roll_back(run: RunFolder, options: LoopOptions | None = None) -> LoopStatus:
    """Roll back the unfinished round, or else the last promoted one.

    Nothing is computed: the earlier removals are still in the run and become the current ones again.

    Raises:
        UsageError: there is no such round.
    """
    options = options or LoopOptions()
    with run_lock(run.store, LOCK):
        begun = rounds(run.store)
        open_round = begun[-1] if begun and begun[-1].decision is None else None
        target = open_round or next((each for each in reversed(begun) if each.in_force), None)
        if target is None:
            raise UsageError(f"{run.store.root}: no round was promoted, there is nothing to roll back")
        plan = target.plan
        _make_removals(run, plan.track, plan.parent, options)
        if target is open_round:
            target.write_json(
                "decision.json", RoundDecision(at=now(), promoted=False, why="It was given up.").model_dump()
            )
        else:
            target.write_json("rollback.json", {"at": now()})
        _write_profile(run, [each for each in begun if each.in_force])
        request_verdicts(run.store, [])
        lines = [f"Round {target.number} was rolled back: the removals before it are used again."]
        if not target.trained:
            return LoopStatus(target.number, RoundState.ROLLED_BACK, lines)
        report = round_facts.write_report(run, target, RoundState.ROLLED_BACK, read_decisions(run))
        return LoopStatus(target.number, RoundState.ROLLED_BACK, lines, report=report)


def promoted(run: RunFolder) -> ModelSpec | None:
    """Return the remover of the last promoted round; None where there is none."""
    found = [each for each in rounds(run.store) if each.in_force]
    return found[-1].spec() if found else None


def removal_pipeline(run: RunFolder) -> Pipeline:
    """Return the run's newest pipeline that makes removals with a model of the role `ROLE`.

    Raises:
        FatalError: there is none, or its last start was limited to some stages.
    """
    for started in reversed(run.latest().values()):
        pipeline = Pipeline.model_validate(started["pipeline"])
        if several := list(of_role(pipeline.models, ROLE)) if ROLE not in pipeline.models else []:
            raise FatalError(
                f"{run.store.root} has several removers ({', '.join(several)}), and the refinement loop "
                "trains one: start the run again with one remover first"
            )
        if ROLE in pipeline.models and any(entry.name == "synthesize" for entry in pipeline.stages):
            if started.get("stages"):
                raise FatalError(f"the run's last start was for --stages {started['stages']}: finish it without first")
            return pipeline
    raise FatalError(f"{run.store.root} makes no removals: the refinement loop needs a run of local_editing")


# --- the steps ---


def _plan_round(run: RunFolder, settings: RefineSettings, begun: Sequence[Round]) -> Round | LoopStatus:
    """Plan the next round; returns the status where verdicts are missing to train on or to compare with."""
    pipeline = removal_pipeline(run)
    parent = pipeline.models[ROLE]
    base = without_round_loras(parent)
    check_trainable(base)
    decisions = read_decisions(run)
    results = with_decisions(read_results(run, pipeline), decisions)
    held_out = held_out_groups(results, settings, run)
    accepted = _accepted(results, begun, decisions)
    training = [each for each in accepted if each.group not in held_out]
    most = max(settings.train.validation, settings.train.measured)
    validation = [each for each in accepted if each.group in held_out][:most]
    missing = _missing_removals(training, settings, begun, base)
    candidates = not_trained_on(results, held_out, begun)
    chosen = panel((each.item_id for each in candidates), settings.compare.pairs, settings.seed)
    unjudged = unjudged_pairs((each for each in candidates if each.item_id in chosen), decisions)
    request_verdicts(run.store, unjudged)
    if missing or unjudged:
        lines = [f"Of {len(results)} removals {sum(each.decision is not None for each in results)} are judged."]
        return _waiting_status(run, begun, [*lines, *_missing_lines(missing, len(training), unjudged)])
    new = Round(run.store, begun[-1].number + 1 if begun else 1)
    new.write_table(TRAINING, training)
    new.write_table(VALIDATION, validation)
    new.write_table(BEFORE, results)
    plan = RoundPlan(
        number=new.number,
        begun_at=now(),
        track=pipeline.track,
        parent=parent,
        base=base,
        settings=settings,
        held_out=sorted(held_out),
    )
    new.write_json("plan.json", plan.model_dump(mode="json"))  # last: it says that the round has begun
    return new


def _missing_lines(missing: int, accepted: int, unjudged: Sequence[str]) -> Iterator[str]:
    """Say how many accepted removals are missing, and how many pairs reviewers must judge."""
    if missing:
        yield f"The next round needs {missing} more accepted removals to train on; there are {accepted}."
    if unjudged:
        yield (
            f"{len(unjudged)} removals wait for a verdict, on which models are compared: in the review page, filter "
            "`wanted by the refinement loop`."
        )


def _waiting_status(run: RunFolder, begun: Sequence[Round], lines: list[str]) -> LoopStatus:
    """Return how the last round ended, and what the next one waits for (`lines`)."""
    lines = [*lines, f"Next: ffpdata review {shlex.quote(run.store.root)}"]
    if not begun:
        return LoopStatus(0, RoundState.WAITING, lines)
    last, decision, state = begun[-1], begun[-1].decision, begun[-1].state
    why = f" {decision.why}" if decision else ""
    lines = [f"Round {last.number} is {state}.{why}", *lines]
    return LoopStatus(last.number, state, lines, report=last.path(REPORT) if last.has(REPORT) else "")


def held_out_groups(results: Sequence[RemovalResult], settings: RefineSettings, run: RunFolder) -> set[str]:
    """Choose the groups of sources that are not trained on, by a hash of each: a group's choice never changes.

    Raises:
        FatalError: there are no removals, or no group or every group would be held out.
    """
    if not results:
        raise FatalError(f"{run.store.root} has no removals yet that reached the synthesis")
    groups = {each.group for each in results}
    held_out = {g for g in groups if int(digest("held out", settings.seed, g)[:8], 16) < settings.held_out * 16**8}
    if not held_out or held_out == groups:
        few = "none" if not held_out else "all"
        raise FatalError(
            f"held_out {settings.held_out} keeps {few} of the {len(groups)} sources out of the training: a round needs "
            "sources to train on and others to be judged by. Set another held_out or seed, or add sources"
        )
    return held_out


def _accepted(
    results: Sequence[RemovalResult], begun: Sequence[Round], decisions: Mapping[str, ReviewDecision]
) -> list[RemovalResult]:
    """Return per item the newest removal that reviewers accepted, whichever model made it."""
    newest: dict[str, RemovalResult] = {}
    older = [each.table(name) for each in reversed(begun) for name in (AFTER, BEFORE) if each.has(f"{name}.parquet")]
    for result in (*results, *(each for table in older for each in with_decisions(table, decisions))):
        if result.accepted and set(FILES) <= result.files.keys():
            newest.setdefault(result.item_id, result)
    return [newest[item] for item in sorted(newest)]


def _missing_removals(
    training: Sequence[RemovalResult], settings: RefineSettings, begun: Sequence[Round], base: ModelSpec
) -> int:
    """Return how many accepted removals are missing before a round may begin."""
    missing = settings.accepted - len(training)
    if begun:
        before = begun[-1].plan
        trained = {each.pair for each in begun[-1].table(TRAINING)}
        new = sum(each.pair not in trained for each in training)
        # With another base or other settings the same removals give another model.
        if before.base.identity() == base.identity() and before.settings.train == settings.train:
            missing = max(missing, settings.new_accepted - new, 1 - new)
    return max(0, missing)


def _make_removals(run: RunFolder, track: str, spec: ModelSpec, options: LoopOptions) -> Pipeline:
    """Run the track with this remover and return its pipeline; removals that it has made already are found by key."""
    last = run.latest()[track]
    pipeline = Pipeline.model_validate(last["pipeline"])
    # The curation settings of the newest start apply to all tracks: this start keeps them.
    changed = {"models": pipeline.models | {ROLE: spec}, "curate": current_settings(run)}
    pipeline = pipeline.model_copy(update=changed)
    start(run, pipeline, last["input"], StartOptions(runner=options.runner, limit=last["limit"], quiet=options.quiet))
    return pipeline


def _decide(run: RunFolder, begun: Sequence[Round], settings: RefineSettings, options: LoopOptions) -> LoopStatus:
    """Compare the newest round, and promote it or not; returns the status, also where verdicts are missing."""
    current, decisions = begun[-1], read_decisions(run)
    before, after = results_to_compare(begun, decisions, settings.compare.pairs)
    comparison = compare(before, after, settings.compare)
    current.write_json("comparison.json", comparison.to_dict())
    if comparison.missing:
        chosen = {each.item_id for each in before if each.decision is not None}
        unjudged = unjudged_pairs((each for each in after if each.item_id in chosen), decisions)
        request_verdicts(run.store, unjudged)
        lines = [f"Round {current.number}: its removals are made.", *_missing_lines(0, 0, unjudged)]
        lines += [f"Next: ffpdata review {shlex.quote(run.store.root)}", *comparison.lines()]
        report = round_facts.write_report(run, current, RoundState.WAITING, decisions)
        return LoopStatus(current.number, RoundState.WAITING, lines, comparison, report)
    request_verdicts(run.store, [])
    winner = current.spec() if comparison.better else current.plan.parent
    # The winner's removals exist; this makes them the current ones, whatever was started or interrupted since.
    options.say(f"Round {current.number}: the removals of {winner.label} are used")
    _make_removals(run, current.plan.track, winner, options)
    if comparison.better:
        _write_profile(run, [current])
    decision = RoundDecision(at=now(), promoted=comparison.better, why=comparison.why)
    current.write_json("decision.json", decision.model_dump(mode="json"))
    state = current.state
    lines = [f"Round {current.number} is {state}. {comparison.why}", *comparison.lines()]
    return LoopStatus(
        current.number, state, lines, comparison, round_facts.write_report(run, current, state, decisions)
    )


def _write_profile(run: RunFolder, in_force: Iterable[Round]) -> None:
    """Write the remover of the last of these rounds as a profile (an overlay); remove the file where there is none."""
    promoted_rounds = list(in_force)
    if not promoted_rounds:
        run.store.remove(PROMOTED)
        return
    last = promoted_rounds[-1]
    profile = {
        "name": f"removal-round-{last.number}",
        "about": f"The remover that round {last.number} of the refinement loop made.",
        "models": {ROLE: last.spec().model_dump(mode="json", exclude_none=True)},
    }
    run.store.write(PROMOTED, yaml.safe_dump(profile, sort_keys=False, allow_unicode=True).encode())
