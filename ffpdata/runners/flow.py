"""The queues between the stages, which all runners share.

A runner takes tasks, has them executed wherever it likes and returns the outcomes in any order. The rows are the same
whatever that order is.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ffpdata.core.errors import FfpdataError
from ffpdata.core.keys import digest, is_of
from ffpdata.core.stage import Item
from ffpdata.manifests.tombstones import TAKEN_DOWN
from ffpdata.runners.finished_work import DUPLICATE, FinishedWork
from ffpdata.runners.progress import Progress
from ffpdata.runners.task import Outcome, Task

BATCH = 8192
"""Items that are looked up in the manifest at once."""

RECENT = 32
"""Tasks at the end of a queue among which that of a certain item is looked for."""


def load(arrived: Sequence[int], finished: int) -> float:
    """Return how many items arrive at a stage per input.

    A stage that none has reached counts as the last one before it that some have: behind a fan-out every stage has more
    items than there are inputs, which matters where GPUs are divided before the first items are through.

    Args:
        arrived: items that came to each stage up to this one.
        finished: inputs that the first stage has finished.
    """
    reached = next((count for count in reversed(arrived) if count), 0)
    return reached / finished if finished and reached else 1.0


@dataclass
class _StageQueues:
    """The tasks before one stage.

    Attributes:
        queue: tasks that a runner can take.
        lookups: tasks that may be done, and wait to be looked up together.
        computing: keys that are being computed, with the tasks that wait for the same answer.
        open: tasks that are here.
        arrived: tasks that ever came.
        finished: tasks that were computed.
        released: at a fan-out of the inputs, tasks whose outcomes were settled in their order.
        early: outcomes that came before those of earlier tasks, by `Task.order`: the task, its outcome, and whether it
            was computed just now.
    """

    queue: deque[Task] = field(default_factory=deque)
    lookups: list[Task] = field(default_factory=list)
    computing: dict[str, list[Task]] = field(default_factory=dict)
    open: int = 0
    arrived: int = 0
    finished: int = 0
    released: int = 0
    early: dict[int, tuple[Task, Outcome | None, bool]] = field(default_factory=dict)


class Flow:
    """The items of a run between its stages.

    Args:
        done: the account of finished work, which has the stages.
        items: the inputs; read as they are fed.
        progress: is told what happens.
        only: numbers of the stages to compute; an item that needs another stage stops before it.
        passed: called with every item that passed the last stage.
    """

    def __init__(
        self,
        done: FinishedWork,
        items: Iterable[Item],
        progress: Progress,
        *,
        only: range | None = None,
        passed: Callable[[Item], None] | None = None,
    ) -> None:
        self.stages, self.progress = done.stages, progress
        self.only = only if only is not None else range(len(self.stages))
        self.exhausted = False
        self._done, self._passed = done, passed
        self._items: Iterator[Item] = iter(items)
        self._queues = [_StageQueues() for _ in self.stages]

    # --- for runners ---

    def feed(self, count: int | None = None) -> int:
        """Take in up to `count` inputs (all by default) and return how many there were."""
        came = 0
        while not self.exhausted and (count is None or came < count):
            item = next(self._items, None)
            if item is None:
                self.exhausted = True
                break
            came += 1
            self._arrive(item, 0, self._done.enter(item))
        return came

    def waiting(self, stage: int) -> int:
        """Tasks that can be taken now."""
        return len(self._queues[stage].queue)

    def open(self, stage: int) -> int:
        """Tasks at a stage: waiting, taken, or waiting for the outcome of a task with the same key."""
        return self._queues[stage].open

    def load(self, stage: int) -> float:
        """Items that arrive at a stage per input, as measured so far."""
        return load([queues.arrived for queues in self._queues[: stage + 1]], self._queues[0].finished)

    def drained(self, stage: int) -> bool:
        """Whether no item is at the stage and none can come any more."""
        return self.exhausted and not any(queues.open for queues in self._queues[: stage + 1])

    def coming(self, stage: int) -> bool:
        """Whether something is being computed, or waits to be, before a stage."""
        return any(queues.computing for queues in self._queues[:stage])

    def ended(self) -> bool:
        """Whether every item has ended."""
        return self.drained(len(self._queues) - 1)

    def take(self, stage: int, count: int = 1) -> list[Task]:
        """Take up to `count` waiting tasks of a stage."""
        queue = self._queues[stage].queue
        taken = [queue.popleft() for _ in range(min(count, len(queue)))]
        for _ in taken:
            self.progress.begin(self.stages[stage].name)
        return taken

    def next_of(self, item_id: str, stage: int) -> Task | None:
        """The first task of an item, or of those fanned out of it, among those that came last to a stage's queue."""
        queue = self._queues[stage].queue
        last = (queue[-place] for place in range(min(len(queue), RECENT), 0, -1))
        return next((task for task in last if is_of(task.item.item_id, item_id)), None)

    def take_this(self, task: Task) -> Task:
        """Take one task out of its queue."""
        self._queues[task.stage].queue.remove(task)
        self.progress.begin(self.stages[task.stage].name)
        return task

    def give_back(self, tasks: Sequence[Task]) -> None:
        """Put tasks that were taken and not tried to the front of their queue."""
        for task in reversed(tasks):
            self.progress.put_back(self.stages[task.stage].name)
            self._queues[task.stage].queue.appendleft(task)

    def finish(self, task: Task, outcome: Outcome) -> None:
        """Record the outcome of a task; tasks that wait for the same key get it, too."""
        queues = self._queues[task.stage]
        self.progress.end(self.stages[task.stage].name, task.item, outcome)
        self._done.keep(task, outcome)
        parked = queues.computing.pop(task.key)
        queues.finished += 1
        self._release(task, outcome, computed=True)
        for other in parked:
            self._enter(other, outcome if outcome.status != "failed" else None)

    def idle(self) -> bool:
        """Feed inputs until something must be computed; True where nothing must."""
        while True:
            for number in range(len(self.stages)):
                while self.resolve(number):
                    pass
            if any(queues.queue for queues in self._queues):
                return False
            if not self.feed(BATCH):
                return True

    def resolve(self, stage: int, *, at_least: int = 1) -> bool:
        """Look up tasks that may be done, up to `BATCH`; False where fewer than `at_least` wait for it."""
        queues = self._queues[stage]
        if len(queues.lookups) < at_least:
            return False
        tasks, queues.lookups = queues.lookups[:BATCH], queues.lookups[BATCH:]
        for task, outcome in zip(tasks, self._done.look_up(tasks), strict=True):
            self._enter(task, outcome)
        return True

    # --- from stage to stage ---

    def _arrive(self, item: Item, number: int, origin: int) -> None:
        """Take an item of the input `origin` to the next stage that applies to it, from stage `number` on."""
        error = None
        try:
            while number < len(self.stages) and not self.stages[number].applies(item.values):
                number += 1
            key = self.stages[number].key_of(item.values) if number < len(self.stages) else ""
        except FfpdataError:
            raise
        except Exception as err:  # noqa: BLE001 - `applies` and `roles` are code of a stage: its error is the item's
            error, key = err, digest("no key", self.stages[number].name, item.item_id)
        if number == len(self.stages):
            if self._passed:
                self._passed(item)
            self._done.leave(origin)
            return
        queues, stage = self._queues[number], self.stages[number]
        gone = self._done.taken_down(item)
        if gone:
            key = taken_down_key(stage.name, item.item_id)
        task = Task(item, key, number, queues.arrived, origin, seen=self._done.as_seen(item))
        queues.arrived += 1
        queues.open += 1
        if number in self.only:
            self.progress.arrive(stage.name)
        if gone:
            self._end(task, "rejected", TAKEN_DOWN, gone)
        elif error is not None:
            self._end(task, "failed", type(error).__name__, "".join(traceback.format_exception(error)))
        elif self._done.may_be_done(task) and task.key not in queues.computing:
            queues.lookups.append(task)
        else:
            self._enter(task, None)

    def _end(self, task: Task, status: str, reason: str, error: str) -> None:
        """End an item before its stage, where this start computes that; else it stops there.

        Its key cannot be told, or nothing may be made of it any more.
        """
        if task.stage not in self.only:
            self._release(task, None, computed=False)
            return
        name = self.stages[task.stage].name
        known = None
        if self._done.may_be_done(task):  # also sets the number of attempts
            [known] = self._done.look_up([task])
        if known is not None:
            self.progress.kept(name, known.started_at)
            self._release(task, known, computed=False)
            return
        outcome = Outcome(status, task.key, reason, error, attempt=task.attempt + 1, started_at=time.time())
        self.progress.begin(name)
        self.progress.end(name, task.item, outcome)
        self._release(task, outcome, computed=True)

    def _enter(self, task: Task, known: Outcome | None) -> None:
        """Settle a task whose outcome is known, let it wait for one with the same key, or queue it."""
        queues = self._queues[task.stage]
        if task.key in queues.computing:
            queues.computing[task.key].append(task)
        elif known is not None and known.reason != DUPLICATE:
            if task.stage in self.only:
                self.progress.kept(self.stages[task.stage].name, known.started_at)
            self._release(task, known, computed=False)
        elif task.stage in self.only:
            queues.computing[task.key] = []
            queues.queue.append(task)
        else:
            self._release(task, None, computed=False)

    def _release(self, task: Task, outcome: Outcome | None, *, computed: bool) -> None:
        """Settle an outcome; at a fan-out of inputs in their order, because the first of two equal inputs counts."""
        if task.stage or not self.stages[0].fan_out:
            self._settle(task, outcome, computed=computed)
            return
        queues = self._queues[0]
        queues.early[task.order] = (task, outcome, computed)
        while queues.released in queues.early:
            first, its, new = queues.early.pop(queues.released)
            queues.released += 1
            self._settle(first, its, computed=new)

    def _settle(self, task: Task, outcome: Outcome | None, *, computed: bool) -> None:
        self._queues[task.stage].open -= 1
        if outcome is None:  # not to be computed in this start
            self._done.leave(task.origin, clean=False)
            return
        for item in self._done.settle(task, outcome, computed=computed):
            self._arrive(item, task.stage + 1, task.origin)


def taken_down_key(stage: str, item_id: str) -> str:
    """Key of the row with which an item ends before a stage because its source was taken down.

    It is none of the stage's own keys: what another item asks there has nothing to do with it.
    """
    return digest(TAKEN_DOWN, stage, item_id)
