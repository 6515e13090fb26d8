"""The arithmetic of a plan: items, seconds and files of every stage from shares, seconds per item and fan-outs.

Every number is an array: the central estimate first, then draws from what is uncertain. The same arithmetic on all of
them at once gives a result and its interval.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from ffpdata.core.resources import Resources

Draws = NDArray[np.float64]
"""float64 (1 + draws,): the central estimate, then one value for each draw."""

ANY = ""
"""The task of an item that has none yet, and of every item whose own task is not told apart."""


def constant(value: float) -> Draws:
    """Return a number that is known."""
    return np.array([value])


@dataclass
class Rates:
    """What a stage does to the items of one task.

    Attributes:
        applies: share of the items that pass through the stage; the others go on unchanged.
        passes: share of those that it lets through.
        computed: share of those that are computed; the others ask what another item asked, and share its answer.
        seconds: wall-clock seconds of an item that passes, all its tries together.
        seconds_lost: the same for one that is rejected or fails.
        cpu_seconds: processor seconds of an item.
        requests: questions to a served model per item.
        prompt_tokens: of the questions of an item.
        completion_tokens: of their answers.
        written: bytes that an item that passes leaves in the run folder.
        children: at a fan-out, task to the number of children of an item that passes; empty elsewhere.
    """

    applies: Draws = field(default_factory=lambda: constant(1.0))
    passes: Draws = field(default_factory=lambda: constant(1.0))
    computed: Draws = field(default_factory=lambda: constant(1.0))
    seconds: Draws = field(default_factory=lambda: constant(0.0))
    seconds_lost: Draws = field(default_factory=lambda: constant(0.0))
    cpu_seconds: Draws = field(default_factory=lambda: constant(0.0))
    requests: Draws = field(default_factory=lambda: constant(0.0))
    prompt_tokens: Draws = field(default_factory=lambda: constant(0.0))
    completion_tokens: Draws = field(default_factory=lambda: constant(0.0))
    written: Draws = field(default_factory=lambda: constant(0.0))
    children: dict[str, Draws] = field(default_factory=dict)

    @property
    def mean_seconds(self) -> Draws:
        """Seconds of an item, whatever becomes of it."""
        return self.passes * self.seconds + (1 - self.passes) * self.seconds_lost


@dataclass
class StageModel:
    """One stage.

    Attributes:
        need: what one of its workers holds.
        served_gpus: GPUs of a model server that a question holds while it is answered.
        rates: by task; `ANY` for tasks that are not told apart.
    """

    name: str
    need: Resources
    served_gpus: float = 0.0
    rates: dict[str, Rates] = field(default_factory=dict)

    def of(self, task: str) -> Rates:
        """Rates of the items of a task."""
        found = self.rates.get(task)
        return found if found is not None else self.rates[ANY]


@dataclass
class TrackModel:
    """One pipeline.

    Attributes:
        track: its name in the manifests.
        stages: in order.
        kept: by task, the share of finished pairs that curation keeps.
        pair_bytes: bytes of a pair in an export.
    """

    track: str
    stages: list[StageModel]
    kept: dict[str, Draws] = field(default_factory=dict)
    pair_bytes: Draws = field(default_factory=lambda: constant(0.0))

    def kept_of(self, task: str) -> Draws:
        """Share of the finished pairs of a task that curation keeps."""
        return self.kept.get(task, self.kept.get(ANY, constant(1.0)))


@dataclass
class Amounts:
    """What a stage, or all of them, comes to. Hours are `*_seconds` / 3600, a GB is 10^9 bytes."""

    items: Draws = field(default_factory=lambda: constant(0.0))
    passed: Draws = field(default_factory=lambda: constant(0.0))
    gpu_seconds: Draws = field(default_factory=lambda: constant(0.0))
    served_gpu_seconds: Draws = field(default_factory=lambda: constant(0.0))
    cpu_seconds: Draws = field(default_factory=lambda: constant(0.0))
    requests: Draws = field(default_factory=lambda: constant(0.0))
    prompt_tokens: Draws = field(default_factory=lambda: constant(0.0))
    completion_tokens: Draws = field(default_factory=lambda: constant(0.0))
    written: Draws = field(default_factory=lambda: constant(0.0))
    exported: Draws = field(default_factory=lambda: constant(0.0))

    @property
    def all_gpu_seconds(self) -> Draws:
        """Those of workers and those of model servers."""
        return self.gpu_seconds + self.served_gpu_seconds

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def scaled(self, by: Draws) -> Amounts:
        """Return the same for so many times the work."""
        return Amounts(**{f.name: getattr(self, f.name) * by for f in fields(self)})


@dataclass
class Expected:
    """What a track comes to.

    Attributes:
        fed: inputs.
        stages: by name, in order.
        pairs: accepted pairs by task.
    """

    fed: Draws
    stages: dict[str, Amounts]
    pairs: dict[str, Draws]

    @property
    def all_pairs(self) -> Draws:
        """Accepted pairs of all tasks."""
        return sum(self.pairs.values(), constant(0.0))

    @property
    def total(self) -> Amounts:
        """All stages together."""
        return sum(self.stages.values(), Amounts())

    def scaled(self, by: Draws) -> Expected:
        """Return the same for so many times the inputs."""
        stages = {name: amounts.scaled(by) for name, amounts in self.stages.items()}
        return Expected(self.fed * by, stages, {task: n * by for task, n in self.pairs.items()})


Arrivals = Mapping[int, Mapping[str, Draws]]
"""Number of a stage to the items of each task that arrive there from outside: inputs, or what an earlier start left."""


def inputs(count: float) -> Arrivals:
    """Return so many inputs at the first stage."""
    return {0: {ANY: constant(count)}}


def expect(model: TrackModel, arrivals: Arrivals) -> Expected:
    """Follow items through all stages."""
    here: dict[str, Draws] = {}
    stages: dict[str, Amounts] = {}
    for number, stage in enumerate(model.stages):
        for task, count in arrivals.get(number, {}).items():
            here[task] = here.get(task, constant(0.0)) + count
        here, stages[stage.name] = _through(stage, here)
    for task, count in arrivals.get(len(model.stages), {}).items():
        here[task] = here.get(task, constant(0.0)) + count
    pairs = {task: count * model.kept_of(task) for task, count in here.items()}
    last = stages[model.stages[-1].name]
    last.exported = sum(pairs.values(), constant(0.0)) * model.pair_bytes
    fed = sum(arrivals.get(0, {}).values(), constant(0.0))
    return Expected(fed, stages, pairs)


def _through(stage: StageModel, here: Mapping[str, Draws]) -> tuple[dict[str, Draws], Amounts]:
    """Take the items before a stage through it: what comes out, and what it costs."""
    out: dict[str, Draws] = defaultdict(lambda: constant(0.0))
    total = Amounts()
    for task, count in here.items():
        rates = stage.of(task)
        entered = count * rates.applies
        passed = entered * rates.passes
        computed = entered * rates.computed
        seconds = computed * rates.mean_seconds
        total += Amounts(
            items=entered,
            passed=passed,
            gpu_seconds=seconds * stage.need.gpus,
            served_gpu_seconds=seconds * stage.served_gpus,
            cpu_seconds=computed * rates.cpu_seconds,
            requests=computed * rates.requests,
            prompt_tokens=computed * rates.prompt_tokens,
            completion_tokens=computed * rates.completion_tokens,
            written=computed * rates.passes * rates.written,
        )
        out[task] = out[task] + count - entered
        for child, number in (rates.children or {task: constant(1.0)}).items():
            out[child] = out[child] + passed * number
    return {task: count for task, count in out.items() if np.any(count > 0)}, total


def tasks_before(model: TrackModel) -> Iterator[tuple[int, StageModel, str]]:
    """Number, stage and task of everything that can arrive anywhere."""
    here = {ANY}
    for number, stage in enumerate(model.stages):
        out: set[str] = set()
        for task in sorted(here):
            yield number, stage, task
            rates = stage.of(task)
            out |= set(rates.children) or {task}
            if rates.children and np.any(rates.applies < 1):
                out.add(task)
        here = out
