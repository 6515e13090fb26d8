"""Where every item stands: what waits at which stage, what is known already, what has ended. All runners share it.

A runner takes tasks, has them executed wherever it likes and hands the outcomes back in any order. The rows are the
same whatever that order is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ffpdata.core.keys import is_of
from ffpdata.core.stage import Item, Stage
from ffpdata.runners.execute import Outcome, next_items, stage_key
from ffpdata.runners.finished_inputs import FinishedInputs
from ffpdata.runners.outcome_index import Hashes
from ffpdata.runners.progress import Progress
from ffpdata.runners.stage_outcomes import StageOutcomes

DUPLICATE = "duplicate"
"""Reason of an item whose content another item of the same run already has."""

BATCH = 8192
"""Items that are looked up in the manifest at once."""

RECENT = 32
"""Tasks at the end of a queue among which that of a certain item is looked for."""


@dataclass(eq=False)
class Task:
    """One item before one stage.

    Attributes:
        stage: number of the stage in the pipeline.
        order: place among the items of its stage.
        adopt: whether a finished outcome that lies in the run folder may be taken over.
        held: whether the item's newest row is of this key already.
        suspect: a worker died while it may have been at work on this: it is run alone.
        deaths: workers that died while they had nothing else.
    """

    item: Item
    key: str
    stage: int
    order: int
    adopt: bool = True
    held: bool = False
    suspect: bool = False
    deaths: int = 0


@dataclass
class _OpenInput:
    """What is open of one input."""

    item: Item
    open: int = 1
    clean: bool = True
    stages: set[str] = field(default_factory=set)


@dataclass
class _StageQueues:
    """One stage's queues."""

    queue: deque[Task] = field(default_factory=deque)
    lookups: list[Task] = field(default_factory=list)
    flying: dict[str, list[Task]] = field(default_factory=dict)
    """Keys that are being computed, with the items that wait for the same answer."""
    open: int = 0
    arrived: int = 0
    finished: int = 0
    released: int = 0
    early: dict[int, tuple[Task, Outcome | None, bool]] = field(default_factory=dict)


class Flow:
    """The items of a run between its stages.

    Args:
        stages: the pipeline.
        ledgers: one per stage.
        items: the inputs; read as they are fed.
        progress: is told what happens.
        finished: where inputs are noted whose every item ended; None notes nothing.
        only: numbers of the stages to compute; items that would need another one stay where they are.
        made: names that inputs which are not walked again have made already.
        passed: called with every item that passed the last stage.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        ledgers: Sequence[StageOutcomes],
        items: Iterable[Item],
        progress: Progress,
        *,
        finished: FinishedInputs | None = None,
        only: range | None = None,
        made: Hashes | None = None,
        passed: Callable[[Item], None] | None = None,
    ) -> None:
        self.stages, self.ledgers, self.progress = list(stages), list(ledgers), progress
        self.only = only if only is not None else range(len(self.stages))
        self.exhausted = False
        self._items: Iterator[Item] = iter(items)
        self._stations = [_StageQueues() for _ in stages]
        self._lines: dict[int, _OpenInput] = {}
        self._fed = 0
        self._finished, self._passed = finished, passed
        self._made = Hashes() if made is None else made

    # --- what a runner asks ---

    def feed(self, count: int | None = None) -> int:
        """Let up to `count` inputs in (all by default) and return how many came."""
        came = 0
        while not self.exhausted and (count is None or came < count):
            item = next(self._items, None)
            if item is None:
                self.exhausted = True
                break
            origin = self._fed
            self._fed += 1
            came += 1
            self._lines[origin] = _OpenInput(item)
            self._arrive(replace(item, origin=origin), 0)
        return came

    def waiting(self, stage: int) -> int:
        """Tasks that can be taken now."""
        return len(self._stations[stage].queue)

    def open(self, stage: int) -> int:
        """Items at a stage: waiting, taken, or waiting for the answer to an equal one."""
        return self._stations[stage].open

    def load(self, stage: int) -> float:
        """Items that come to a stage per input, as far as it can be told."""
        first, here = self._stations[0], self._stations[stage]
        return here.arrived / first.finished if first.finished and here.arrived else 1.0

    def drained(self, stage: int) -> bool:
        """Whether no item is at the stage and none can come any more."""
        return self.exhausted and not any(station.open for station in self._stations[: stage + 1])

    def coming(self, stage: int) -> bool:
        """Whether something is being computed, or waits to be, before a stage."""
        return any(station.flying for station in self._stations[:stage])

    def ended(self) -> bool:
        """Whether every item has ended."""
        return self.drained(len(self._stations) - 1)

    def take(self, stage: int, count: int = 1) -> list[Task]:
        """Take up to `count` waiting tasks of a stage."""
        queue = self._stations[stage].queue
        taken = [queue.popleft() for _ in range(min(count, len(queue)))]
        for _ in taken:
            self.progress.begin(self.stages[stage].name)
        return taken

    def next_of(self, item_id: str, stage: int) -> Task | None:
        """The first task of an item, or of those fanned out of it, among those that came last to a stage's queue."""
        queue = self._stations[stage].queue
        last = (queue[-place] for place in range(min(len(queue), RECENT), 0, -1))
        return next((task for task in last if is_of(task.item.item_id, item_id)), None)

    def take_this(self, task: Task) -> Task:
        """Take one task out of its queue."""
        self._stations[task.stage].queue.remove(task)
        self.progress.begin(self.stages[task.stage].name)
        return task

    def give_back(self, tasks: Sequence[Task]) -> None:
        """Put tasks that were taken and not tried to the front of their queue."""
        for task in reversed(tasks):
            self.progress.put_back(self.stages[task.stage].name)
            self._stations[task.stage].queue.appendleft(task)

    def finish(self, task: Task, outcome: Outcome) -> None:
        """Note the outcome of a task; what waits for the same answer has it too."""
        station = self._stations[task.stage]
        self.progress.end(self.stages[task.stage].name, task.item, outcome)
        self.ledgers[task.stage].remember(outcome)
        parked = station.flying.pop(task.key)
        station.finished += 1
        self._release(task, outcome, fresh=True)
        for other in parked:
            self._enter(other)

    def idle(self) -> bool:
        """Let inputs in until something must be computed; True where nothing must."""
        while True:
            for number in range(len(self.stages)):
                while self.resolve(number):
                    pass
            if any(station.queue for station in self._stations):
                return False
            if not self.feed(BATCH):
                return True

    def resolve(self, stage: int, *, at_least: int = 1) -> bool:
        """Look up in the manifest what may be known there; False where fewer than `at_least` items ask for it."""
        station = self._stations[stage]
        if len(station.lookups) < at_least:
            return False
        tasks, station.lookups = station.lookups[:BATCH], station.lookups[BATCH:]
        self.ledgers[stage].load([(task.item, task.key) for task in tasks])
        for task in tasks:
            task.held = self.ledgers[stage].held(task.item, task.key)
            task.adopt = not self.ledgers[stage].again(task.key)
            self._enter(task)
        self.ledgers[stage].load(())  # thousands of outcomes are not kept until the next time
        return True

    # --- how items move ---

    def _arrive(self, item: Item, number: int) -> None:
        while number < len(self.stages) and not self.stages[number].applies(item.values):
            number += 1
        if number == len(self.stages):
            if self._passed:
                self._passed(item)
            self._close(item)
            return
        station, name = self._stations[number], self.stages[number].name
        task = Task(item, stage_key(self.stages[number], item), number, station.arrived)
        station.arrived += 1
        station.open += 1
        self.progress.arrive(name)
        if self.ledgers[number].maybe(task.key) and task.key not in station.flying:
            station.lookups.append(task)
        else:
            self._enter(task)

    def _enter(self, task: Task) -> None:
        """Answer a task from what is known, let it wait for an equal one, or queue it."""
        station, ledger = self._stations[task.stage], self.ledgers[task.stage]
        if task.key in station.flying:
            station.flying[task.key].append(task)
            return
        known = ledger.known(task.key)
        if known is not None and known.reason != DUPLICATE:
            self.progress.kept(self.stages[task.stage].name)
            self._release(task, known, fresh=False)
        elif task.stage in self.only:
            task.item = replace(task.item, attempt=ledger.attempts(task.item, task.key))
            station.flying[task.key] = []
            station.queue.append(task)
        else:
            self._release(task, None, fresh=False)

    def _release(self, task: Task, outcome: Outcome | None, *, fresh: bool) -> None:
        """Settle an outcome; at a fan-out of the inputs in their order, because of two equal ones the first counts."""
        if task.stage or not self.stages[0].fan_out:
            self._settle(task, outcome, fresh=fresh)
            return
        station = self._stations[0]
        station.early[task.order] = (task, outcome, fresh)
        while station.released in station.early:
            first, its, new = station.early.pop(station.released)
            station.released += 1
            self._settle(first, its, fresh=new)

    def _settle(self, task: Task, outcome: Outcome | None, *, fresh: bool) -> None:
        station = self._stations[task.stage]
        station.open -= 1
        line = self._lines.get(task.item.origin)
        if outcome is None:  # not to be computed now
            if line:
                line.clean = False
            self._close(task.item)
            return
        stage = self.stages[task.stage]
        if not task.stage and stage.fan_out:
            outcome = self._unique(task.item, outcome)
        if line and (outcome.status == "failed" or outcome.reason == DUPLICATE):
            line.clean = False
        commit = fresh or not task.held or outcome.reason == DUPLICATE
        children = self.ledgers[task.stage].settle(task.item, outcome, commit=commit)
        if line:
            line.open += len(children)
            line.stages.add(stage.name)
        for child in children:
            self._arrive(child, task.stage + 1)
        self._close(task.item)

    def _unique(self, item: Item, outcome: Outcome) -> Outcome:
        """Reject an input whose children another input of this run has made already."""
        names = [child.item_id for child in next_items(self.stages[0], item, outcome)]
        again = [name for name in names if name in self._made]
        for name in names:
            self._made.add(name)
        if not again:
            return outcome
        detail = f"the run already has {again[0]}: the same content with the same hints under another path"
        return replace(outcome, status="rejected", reason=DUPLICATE, error=detail, children=[])

    def _close(self, item: Item) -> None:
        """One item less is open of its input; the last one notes that the input is through."""
        line = self._lines.get(item.origin)
        if line is None:
            return
        line.open -= 1
        if not line.open:
            del self._lines[item.origin]
            if line.clean and self._finished:
                self._finished.add(line.item, line.stages)
