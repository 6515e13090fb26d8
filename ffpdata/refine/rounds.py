"""The refinement loop of removals (paper, section 3.3), one step after the other and each only once.

Accepted removals train the remover; every removal is made anew by it, and nothing else, because its key alone changed;
the round is compared with the one before on removals of sources that no round trained on, and promoted if it is
better. Whoever calls `refine` again goes on where the loop stands, after a kill too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ffpdata.core.config import Pipeline
from ffpdata.core.errors import FatalError, UsageError
from ffpdata.core.keys import digest
from ffpdata.core.stage import ModelSpec
from ffpdata.curate.curation import current_settings
from ffpdata.curate.verdicts import Decision as Decided
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.refine import PROMOTED, round_facts
from ffpdata.refine.compare import Comparison, compare
from ffpdata.refine.removal_results import FILES, RemovalResult, decided, judged, take
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
    comparable,
    now,
    panel,
    plain,
    rounds,
    unseen,
    waiting,
)
from ffpdata.refine.round_training import tidy, train
from ffpdata.refine.settings import RefineSettings
from ffpdata.review.requests import request_verdicts
from ffpdata.runners.session import StartOptions, start
from ffpdata.storage.lock import run_lock
from ffpdata.training.finetune import check_trainable

LOCK = "refine.lock"
"""One process refines a run at a time; the run's own lock is taken while it works."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class LoopStatus:
    """Where the loop stands.

    Attributes:
        round: number of the newest round; 0 before the first.
        state: of that round; before the first it waits for reviews, too.
        lines: what to tell a person.
        comparison: of the round with what was before it, where it came so far.
        report: its page in the run folder.
    """

    round: int
    state: RoundState
    lines: list[str] = field(default_factory=list)
    comparison: Comparison | None = None
    report: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for programs."""
        comparison = self.comparison.to_dict() if self.comparison else None
        return vars(self) | {"state": self.state.name.lower(), "comparison": comparison}


@dataclass(frozen=True)
class LoopOptions:
    """How the work is done.

    Attributes:
        runner: `inline` or `ray`, for making removals anew.
        quiet: show no progress of it.
        folder: where the training keeps what it needs meanwhile; None: in the run folder, where that is local.
        say: is told each step.
    """

    runner: str = "inline"
    quiet: bool = False
    folder: Path | None = None
    say: Say = print


def refine(run: RunFolder, settings: RefineSettings, means: LoopOptions | None = None) -> LoopStatus:
    """Go from wherever the loop stands to the next point where a person is needed.

    Raises:
        ConfigError: a remover that cannot be trained.
        FatalError: the run is not finished, or a step cannot go on; what is done is kept.
        RunLockedError: another process refines this run, or writes it.
    """
    means = means or LoopOptions()
    with run_lock(run.store, LOCK):
        begun = rounds(run.store)
        if not begun or begun[-1].decision is not None:
            new = _begin(run, settings, begun)
            if isinstance(new, LoopStatus):
                return new
            begun.append(new)
            means.say(f"Round {new.number}: trains on {len(new.table(TRAINING))} accepted removals")
        current = begun[-1]
        if not current.trained:
            train(run, current, means.folder, means.say, on_ray=means.runner == "ray")
        tidy(current, means.folder)
        if not current.regenerated:
            means.say(f"Round {current.number}: makes every removal anew")
            after = _make(run, current.plan.track, current.spec(), means)
            current.write_table(AFTER, take(run, after))
        return _decide(run, begun, settings, means)


def roll_back(run: RunFolder, means: LoopOptions | None = None) -> LoopStatus:
    """Take the newest round back: give up the one that goes on, or go back behind the last that was promoted.

    Nothing is computed for it: the removals of before are in the run and hold again.

    Raises:
        UsageError: there is no such round.
    """
    means = means or LoopOptions()
    with run_lock(run.store, LOCK):
        begun = rounds(run.store)
        open_round = begun[-1] if begun and begun[-1].decision is None else None
        target = open_round or next((each for each in reversed(begun) if each.in_force), None)
        if target is None:
            raise UsageError(f"{run.store.root}: no round was promoted, there is nothing to roll back")
        plan = target.plan
        _make(run, plan.track, plan.parent, means)
        if target is open_round:
            target.write_json(
                "decision.json", RoundDecision(at=now(), promoted=False, why="It was given up.").model_dump()
            )
        else:
            target.write_json("rollback.json", {"at": now()})
        _write_profile(run, [each for each in begun if each.in_force])
        request_verdicts(run.store, [])
        lines = [f"Round {target.number} was rolled back: the removals of before hold again."]
        if not target.trained:
            return LoopStatus(target.number, RoundState.ROLLED_BACK, lines)
        report = round_facts.write(run, target, RoundState.ROLLED_BACK, decided(run))
        return LoopStatus(target.number, RoundState.ROLLED_BACK, lines, report=report)


def promoted(run: RunFolder) -> ModelSpec | None:
    """The remover that the last promoted round made; None where none was."""
    found = [each for each in rounds(run.store) if each.in_force]
    return found[-1].spec() if found else None


def removal_pipeline(run: RunFolder) -> Pipeline:
    """The newest pipeline of the run that makes removals by a model of its own.

    Raises:
        FatalError: there is none, or it was started for some of its stages alone.
    """
    for begun in reversed(run.latest().values()):
        pipeline = Pipeline.model_validate(begun["pipeline"])
        if ROLE in pipeline.models and any(entry.name == "synthesize" for entry in pipeline.stages):
            if begun.get("stages"):
                raise FatalError(f"the run's last start was for --stages {begun['stages']}: finish it without first")
            return pipeline
    raise FatalError(f"{run.store.root} makes no removals: the refinement loop needs a run of local_editing")


# --- the steps ---


def _begin(run: RunFolder, settings: RefineSettings, begun: Sequence[Round]) -> Round | LoopStatus:
    """Plan the next round; a LoopStatus where there is too little to learn from, or to compare with."""
    pipeline = removal_pipeline(run)
    parent = pipeline.models[ROLE]
    base = plain(parent)
    check_trainable(base)
    decisions = decided(run)
    made = judged(take(run, pipeline), decisions)
    kept = held_out_groups(made, settings, run)
    accepted = _accepted(made, begun, decisions)
    training = [each for each in accepted if each.group not in kept]
    most = max(settings.train.validation, settings.train.measured)
    validation = [each for each in accepted if each.group in kept][:most]
    lacking = _lacking(training, settings, begun, base)
    fair = unseen(made, kept, begun)
    chosen = panel((each.item_id for each in fair), settings.compare.pairs, settings.seed)
    unjudged = waiting((each for each in fair if each.item_id in chosen), decisions)
    request_verdicts(run.store, unjudged)
    if lacking or unjudged:
        lines = [f"Of {len(made)} removals {sum(each.decision is not None for each in made)} are judged."]
        return _stand(run, begun, [*lines, *_wants(lacking, len(training), unjudged)])
    new = Round(run.store, begun[-1].number + 1 if begun else 1)
    new.write_table(TRAINING, training)
    new.write_table(VALIDATION, validation)
    new.write_table(BEFORE, made)
    plan = RoundPlan(
        number=new.number,
        begun_at=now(),
        track=pipeline.track,
        parent=parent,
        base=base,
        settings=settings,
        held_out=sorted(kept),
    )
    new.write_json("plan.json", plan.model_dump(mode="json"))  # last: with it the round has begun
    return new


def _wants(lacking: int, there: int, unjudged: Sequence[str]) -> Iterator[str]:
    if lacking:
        yield f"The next round needs {lacking} more accepted removals to train on; there are {there}."
    if unjudged:
        yield (
            f"{len(unjudged)} removals wait to be judged that every model is judged by: in the review page, filter "
            "`wanted by the refinement loop`."
        )


def _stand(run: RunFolder, begun: Sequence[Round], lines: list[str]) -> LoopStatus:
    """How the last round ended, and what the next one waits for."""
    told = [*lines, f"Next: ffpdata review {run.store.root}"]
    if not begun:
        return LoopStatus(0, RoundState.WAITING, told)
    last, ended, state = begun[-1], begun[-1].decision, begun[-1].state
    why = f" {ended.why}" if ended else ""
    lines = [f"Round {last.number} is {state}.{why}", *told]
    return LoopStatus(last.number, state, lines, report=last.path(REPORT) if last.has(REPORT) else "")


def held_out_groups(made: Sequence[RemovalResult], settings: RefineSettings, run: RunFolder) -> set[str]:
    """Groups of sources that are not trained on. It follows from each group alone, so that no round moves one."""
    if not made:
        raise FatalError(f"{run.store.root} has no removals yet that came to the synthesis")
    groups = {each.group for each in made}
    kept = {g for g in groups if int(digest("held out", settings.seed, g)[:8], 16) < settings.held_out * 16**8}
    if not kept or kept == groups:
        few = "none" if not kept else "all"
        raise FatalError(
            f"held_out {settings.held_out} keeps {few} of the {len(groups)} sources out of the training: a round needs "
            "sources to train on and others to be judged by. Set another held_out or seed, or add sources"
        )
    return kept


def _accepted(
    made: Sequence[RemovalResult], begun: Sequence[Round], decisions: Mapping[str, Decided]
) -> list[RemovalResult]:
    """Of each item the newest removal that reviewers accepted, under whatever model it was made."""
    found: dict[str, RemovalResult] = {}
    older = [each.table(name) for each in reversed(begun) for name in (AFTER, BEFORE) if each.has(f"{name}.parquet")]
    for outcome in (*made, *(each for table in older for each in judged(table, decisions))):
        if outcome.accepted and set(FILES) <= outcome.files.keys():
            found.setdefault(outcome.item_id, outcome)
    return [found[name] for name in sorted(found)]


def _lacking(
    training: Sequence[RemovalResult], settings: RefineSettings, begun: Sequence[Round], base: ModelSpec
) -> int:
    """How many accepted removals are missing before a round may begin."""
    lacking = settings.accepted - len(training)
    if begun:
        before = begun[-1].plan
        known = {each.pair for each in begun[-1].table(TRAINING)}
        fresh = sum(each.pair not in known for each in training)
        # With another base or other settings the same removals teach something else.
        if before.base.identity() == base.identity() and before.settings.train == settings.train:
            lacking = max(lacking, settings.new_accepted - fresh, 1 - fresh)
    return max(0, lacking)


def _make(run: RunFolder, track: str, spec: ModelSpec, means: LoopOptions) -> Pipeline:
    """Run the track with this remover: what it has made already is found by its key, the rest is made."""
    begun = run.latest()[track]
    pipeline = Pipeline.model_validate(begun["pipeline"])
    # The newest start's curation holds for all tracks: this start is no reason to change it.
    changed = {"models": pipeline.models | {ROLE: spec}, "curate": current_settings(run)}
    pipeline = pipeline.model_copy(update=changed)
    start(run, pipeline, begun["input"], StartOptions(runner=means.runner, limit=begun["limit"], quiet=means.quiet))
    return pipeline


def _decide(run: RunFolder, begun: Sequence[Round], settings: RefineSettings, means: LoopOptions) -> LoopStatus:
    current, decisions = begun[-1], decided(run)
    before, after = comparable(begun, decisions, settings.compare.pairs)
    comparison = compare(before, after, settings.compare)
    current.write_json("comparison.json", comparison.to_dict())
    if comparison.missing:
        chosen = {each.item_id for each in before if each.decision is not None}
        unjudged = waiting((each for each in after if each.item_id in chosen), decisions)
        request_verdicts(run.store, unjudged)
        lines = [f"Round {current.number}: its removals are made.", *_wants(0, 0, unjudged)]
        lines += [f"Next: ffpdata review {run.store.root}", *comparison.lines()]
        report = round_facts.write(run, current, RoundState.WAITING, decisions)
        return LoopStatus(current.number, RoundState.WAITING, lines, comparison, report)
    request_verdicts(run.store, [])
    winner = current.spec() if comparison.better else current.plan.parent
    # Its removals are there; that they hold is made sure of, whatever was started, or broken off, meanwhile.
    means.say(f"Round {current.number}: the removals of {winner.label} hold")
    _make(run, current.plan.track, winner, means)
    if comparison.better:
        _write_profile(run, [current])
    ended = RoundDecision(at=now(), promoted=comparison.better, why=comparison.why)
    current.write_json("decision.json", ended.model_dump(mode="json"))
    state = current.state
    lines = [f"Round {current.number} is {state}. {comparison.why}", *comparison.lines()]
    return LoopStatus(current.number, state, lines, comparison, round_facts.write(run, current, state, decisions))


def _write_profile(run: RunFolder, in_force: Iterable[Round]) -> None:
    """Write the remover in force as a profile to lay over another, or take it away."""
    found = list(in_force)
    if not found:
        run.store.remove(PROMOTED)
        return
    last = found[-1]
    profile = {
        "name": f"removal-round-{last.number}",
        "about": f"The remover that round {last.number} of the refinement loop made.",
        "models": {ROLE: last.spec().model_dump(mode="json", exclude_none=True)},
    }
    run.store.write(PROMOTED, yaml.safe_dump(profile, sort_keys=False, allow_unicode=True).encode())
