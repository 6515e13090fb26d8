"""Which worker gets which task, and how many workers each pool has: the rules, whoever carries them out.

The Ray runner follows them with processes (`runners/ray`), the simulation of `ffpdata plan` with a clock of its own
(`plan/simulation`). Stages that ask for the same CPUs and memory share a pool whose workers set a stage up when they
first need it; a stage that asks for a GPU has a pool of its own. A worker prefers the next stage of the item it
computed last, then the most downstream tasks. A stage whose successor has a full queue waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ffpdata.core.stage import Stage
from ffpdata.runners.flow import BATCH
from ffpdata.runners.placement import grow, needed_in_hand
from ffpdata.runners.pools import Pools, WorkerHandle, WorkerPool
from ffpdata.runners.task import Task

SCALE_SECONDS = 0.5
CALL_SECONDS = 0.05
"""Quick tasks are sent together, up to about this much work in one call."""
MOST_ITEMS = 32
QUICK_SECONDS = 0.1
"""A worker whose tasks are quicker than this is sent its next call before it has answered."""
FILES_SECONDS = 6.0
"""An item's seconds for files before they are measured: to decode 81 frames of 1280x720 and encode as many."""
INSIDE = 4096
"""Items that are between the stages at most, before more inputs are fed."""


class Queues(Protocol):
    """The tasks between the stages, as far as scheduling looks at them; `runners/flow` has those of a run."""

    @property
    def stages(self) -> Sequence[Stage]:
        """The pipeline."""

    @property
    def only(self) -> range:
        """Numbers of the stages to compute."""

    @property
    def exhausted(self) -> bool:
        """Whether every input was fed."""

    def feed(self, count: int | None = None) -> int:
        """Take in up to `count` inputs and return how many there were."""

    def resolve(self, stage: int, *, at_least: int = 1) -> bool:
        """Look up tasks that may be done; False where fewer than `at_least` wait for it."""

    def waiting(self, stage: int) -> int:
        """Tasks that can be taken now."""

    def open(self, stage: int) -> int:
        """Tasks at a stage, waiting or taken."""

    def load(self, stage: int) -> float:
        """Items that arrive at a stage per input, as measured so far."""

    def drained(self, stage: int) -> bool:
        """Whether no item is at the stage and none can come any more."""

    def coming(self, stage: int) -> bool:
        """Whether something is being computed, or waits to be, before a stage."""

    def take(self, stage: int, count: int = 1) -> list[Task]:
        """Take up to `count` waiting tasks of a stage."""

    def take_this(self, task: Task) -> Task:
        """Take one task out of its queue."""

    def next_of(self, item_id: str, stage: int) -> Task | None:
        """The next task of an item, where it waits among those that came last."""


class Scheduling:
    """Assigns tasks to workers and decides how many there are.

    Args:
        flow: the items.
        workers: all pools.
        clock: the time, seconds.
    """

    def __init__(self, flow: Queues, workers: Pools, clock: Callable[[], float] = time.monotonic) -> None:
        self.queues, self.workers, self.clock = flow, workers, clock
        self.seconds: dict[int, float] = {}
        """Measured seconds per task, by stage."""
        self.turns: dict[int, float] = {}
        """Of them, those at the GPU, where a worker overlaps its items."""
        self.scaled = self.resolved = 0.0
        self.inside, self.batch = INSIDE, BATCH
        """Items between the stages at most, and those that are looked up together."""

    def assign(self) -> None:
        """Feed inputs, start and end workers, and send tasks: all that can be decided now."""
        self._feed()
        self._scale()
        self._dispatch()

    def learn(self, number: int, seconds: float, turn: float | None = None) -> None:
        """Take in what a task took, and of it the seconds at the GPU where its worker overlaps items."""
        _average(self.seconds, number, seconds)
        if turn is not None:
            _average(self.turns, number, turn)

    def show(self) -> None:
        """Called after the number of workers was decided."""

    def at_work(self) -> bool:
        """Whether a task is with a worker."""
        return any(call.kind in ("run", "ping") for call in self.workers.calls.values())

    def _feed(self) -> None:
        """Feed inputs while there is room, and look up tasks that may be done."""
        flow, idle, now = self.queues, not self.at_work(), self.clock()
        # Tasks of a GPU pool without workers take no room: they are computed in a later phase.
        active = [n for n, pool in self.workers.of.items() if not pool.need.gpus or pool.actors]
        while (
            not flow.exhausted and flow.open(0) < 2 * self.batch and (idle or sum(map(flow.open, active)) < self.inside)
        ):
            flow.feed(self.batch // 4)
        patient = not idle and now - self.resolved < SCALE_SECONDS
        for number in range(len(flow.stages)):
            while flow.resolve(number, at_least=self.batch if patient else 1):
                pass
        if not patient:
            self.resolved = now

    # --- how many workers ---

    def _scale(self) -> None:
        now, workers, flow = self.clock(), self.workers, self.queues
        if now - self.scaled < SCALE_SECONDS:
            return
        self.scaled = now
        workers.look()
        for pool in workers.pools:
            over = all(flow.drained(number) for number in pool.stages)
            for actor in list(pool.actors):
                actor.retiring |= over
                if actor.retiring and not actor.calls:
                    workers.close(actor)
        for on_gpu in (False, True):
            pools = {str(i): pool for i, pool in enumerate(workers.pools) if bool(pool.need.gpus) is on_gpu}
            grow(
                {name: len(pool.actors) for name, pool in pools.items()},
                {name: self._cost(pool) for name, pool in pools.items()},
                {name: self._most(pool) for name, pool in pools.items()},
                lambda name, pools=pools: workers.spawn(pools[name]),  # type: ignore[misc]
                stop_when_full=on_gpu,
            )
        self._make_room()
        self.show()

    def _make_room(self) -> None:
        """Where a pool has tasks and no free CPU for a worker, end an idle worker of another pool: pools take turns."""
        pools = [pool for pool in self.workers.pools if not pool.need.gpus]
        leaving = any(actor.retiring for pool in pools for actor in pool.actors)
        if leaving or not any(self._most(pool) and not pool.actors for pool in pools):
            return
        for pool in pools:
            if not pool.alone and not any(map(self.queues.waiting, pool.stages)):
                for actor in pool.actors:
                    if actor.name and not actor.calls:
                        actor.retiring = True
                        return

    def _most(self, pool: WorkerPool) -> int:
        """How many workers the pool can use."""
        flow, first = self.queues, pool.stages[0]
        held = sum(len(call.tasks) for actor in pool.actors for call in actor.calls)
        work = sum(flow.waiting(number) for number in pool.stages) + len(pool.alone) + held
        if not pool.need.gpus:
            return -(-work // pool.need.concurrency)
        if first not in flow.only or not (work or flow.coming(first)):
            return 0  # no task can come: loading the model would be useless
        more = not flow.exhausted or flow.coming(first)
        return 10**6 if more else -(-work // pool.need.concurrency)

    def _cost(self, pool: WorkerPool) -> float | None:
        """Worker seconds: on a GPU per input, None until the first task was measured; on CPUs, of all waiting tasks."""
        flow, first = self.queues, pool.stages[0]
        if not pool.need.gpus:
            return sum(flow.waiting(n) * self.seconds.get(n, 1.0) for n in pool.stages)
        seconds = self.turns.get(first) or self.seconds.get(first, flow.stages[first].resources.seconds)
        return None if seconds is None else seconds * flow.load(first) / pool.need.concurrency

    # --- tasks are sent ---

    def _dispatch(self) -> None:
        for pool in self.workers.pools:
            if not pool.alone and not any(map(self.queues.waiting, pool.stages)):
                continue
            free = [actor for actor in pool.actors if actor.name and not actor.retiring]
            for actor in free:
                if pool.alone and not actor.calls and self._prepared(actor, pool.alone[0].stage):
                    self.workers.run(actor, [pool.alone.popleft()], alone=True)
            free.sort(key=lambda actor: len(actor.calls))
            free = free[1:] if pool.alone else free  # one worker must become free for the suspects
            free = [actor for actor in free if not any(c.alone or c.kind == "setup" for c in actor.calls)]
            for actor in free:
                self._continue_item(actor)
            for depth in range(max(2, pool.need.in_hand)):
                if depth >= pool.need.in_hand and not any(map(self._quick, pool.stages)):
                    break
                for actor in free:
                    if len(actor.calls) == depth:
                        self._give(actor, depth)

    def _continue_item(self, actor: WorkerHandle) -> None:
        """Send a free worker the next stage of the item it computed last, whose clips it still has in memory."""
        if not actor.item_id or actor.calls:
            return
        for number in reversed(actor.pool.stages):
            task = self.queues.next_of(actor.item_id, number)
            if task and not self._held_back(number):
                if self._prepared(actor, number):
                    self.workers.run(actor, [self.queues.take_this(task)])
                return
        actor.item_id = ""  # another worker has it: do not search for it again

    def _give(self, actor: WorkerHandle, depth: int) -> None:
        """Send a worker the most downstream tasks that wait for its pool."""
        flow, pool = self.queues, actor.pool
        for number in reversed(pool.stages):
            waiting, seconds = flow.waiting(number), self.seconds.get(number)
            if not waiting or self._held_back(number):
                continue
            if depth >= self._in_hand(pool, number) and not self._quick(number):
                continue
            if self._prepared(actor, number):
                count = 1 if seconds is None else int(CALL_SECONDS / max(seconds, 1e-4))
                self.workers.run(actor, flow.take(number, max(1, min(count, MOST_ITEMS))))
            return

    def _quick(self, number: int) -> bool:
        """Whether tasks wait that are so short that a worker has the next call at hand before it has answered."""
        return self.queues.waiting(number) > 0 and self.seconds.get(number, QUICK_SECONDS + 1) <= QUICK_SECONDS

    def _in_hand(self, pool: WorkerPool, number: int) -> int:
        """Items that a worker should have in hand: on a GPU as many as keep it busy, and one for every idle worker."""
        need = pool.need
        if not need.overlaps:
            return need.concurrency
        waiting = self.queues.waiting(number)
        if waiting <= len(pool.actors) and waiting <= sum(not actor.has("run") for actor in pool.actors):
            return 1
        if number in self.turns:
            turn = self.turns[number]
            files = self.seconds[number] - turn
        else:
            files = FILES_SECONDS
            turn = (need.seconds or 2 * files) - files
        return needed_in_hand(turn, files, need.in_hand)

    def _held_back(self, number: int) -> bool:
        """Whether the next stage's queue is full; a next stage without workers, computed in a later phase, never is."""
        if number + 1 >= len(self.queues.stages):
            return False
        after = self.workers.of[number + 1]
        if after is self.workers.of[number] or not after.actors:
            return False
        return self.queues.waiting(number + 1) > 4 * len(after.actors) * max(2, after.need.concurrency) + MOST_ITEMS

    def _prepared(self, actor: WorkerHandle, number: int) -> bool:
        """Whether a worker has set a stage up; otherwise it is asked to, once it is free."""
        if number not in actor.ready and not actor.calls:
            self.workers.set_up(actor, number)
        return number in actor.ready


def _average(means: dict[int, float], number: int, seconds: float) -> None:
    """Move a stage's mean by a tenth towards a new measurement."""
    means[number] = 0.9 * means.get(number, seconds) + 0.1 * seconds
