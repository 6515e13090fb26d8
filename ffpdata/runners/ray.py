"""The Ray runner: the same items through the same stages, on all cores of this machine or on a cluster.

Ray places processes, carries messages and reports dead workers. The scheduler here assigns tasks to workers. Stages
that ask for the same CPUs and memory share a pool whose workers set a stage up when they first need it; a stage that
asks for a GPU has a pool of its own. A worker prefers the next stage of the item it computed last, then the most
downstream tasks. A stage whose successor has a full queue waits, and only this process commits rows.
"""

from __future__ import annotations

import time

import ray
from ray.exceptions import RayError

from ffpdata.core.errors import FatalError
from ffpdata.processes.ray_cluster import ray_cluster
from ffpdata.runners.faults import Faults
from ffpdata.runners.flow import BATCH, Flow
from ffpdata.runners.interrupts import Stop
from ffpdata.runners.placement import grow, needed_in_hand, refuse
from ffpdata.runners.prometheus import RayMetrics
from ffpdata.runners.task import Task
from ffpdata.runners.worker import WorkerReply
from ffpdata.runners.worker_pools import Call, WorkerHandle, WorkerPool, WorkerPools
from ffpdata.storage.store import Store

SCALE_SECONDS = 0.5
CLOSE_SECONDS = 30.0
CALL_SECONDS = 0.05
"""Quick tasks are sent together, up to about this much work in one call."""
MOST_ITEMS = 32
QUICK_SECONDS = 0.1
"""A worker whose tasks are quicker than this is sent its next call before it has answered."""
FILES_SECONDS = 6.0
"""An item's seconds for files before they are measured: to decode 81 frames of 1280x720 and encode as many."""
INSIDE = 4096
"""Items that are between the stages at most, before more inputs are fed."""


def run_ray(flow: Flow, store: Store, stop: Stop, *, max_attempts: int = 3) -> None:
    """Take all items through all stages on Ray: on the cluster of `RAY_ADDRESS`, else on this machine.

    Raises:
        FatalError: a stage fits on no node, or cannot start.
        KeyboardInterrupt: it was asked to stop; running tasks were finished first.
    """
    if flow.idle():  # everything is done: no cluster is needed
        return
    with ray_cluster():
        stop.listen()  # ray.init sets a handler of its own
        Scheduler(flow, store, stop, max_attempts).run()


class Scheduler:
    """Assigns tasks to workers.

    Args:
        flow: the items.
        store: the run folder.
        stop: says when to stop.
        max_attempts: how often a worker tries a RetryableError.
    """

    def __init__(self, flow: Flow, store: Store, stop: Stop, max_attempts: int) -> None:
        self.flow, self.stop = flow, stop
        self.workers = WorkerPools(flow.stages, store, max_attempts)
        self.seconds: dict[int, float] = {}
        """Measured seconds per task, by stage."""
        self.turns: dict[int, float] = {}
        """Of them, those at the GPU, where a worker overlaps its items."""
        self.faults = Faults(flow, self.workers, lambda number: self.seconds.update({number: CALL_SECONDS}))
        self.scaled = self.resolved = 0.0
        self.metrics = RayMetrics()
        flow.progress.listeners.append(self.metrics.count)

    def run(self) -> None:
        """Work until every item ended."""
        needs = {stage.name: stage.resources for n, stage in enumerate(self.flow.stages) if n in self.flow.only}
        if problem := refuse(needs, list(self.workers.nodes.values())):
            raise FatalError(problem)
        try:
            while True:
                if not self.stop.asked:
                    self._feed()
                    self._scale()
                    self._dispatch()
                if not self._at_work() and (self.stop.asked or self.flow.ended()):
                    break
                self._collect()
                self.faults.check_times()
                if self.stop.guard:
                    self.stop.guard()
            self._close_all()
            self._show()
            self.stop.check()
        finally:
            for actor in self.workers.actors:
                self.workers.kill(actor)

    def _at_work(self) -> bool:
        return any(call.kind in ("run", "ping") for call in self.workers.calls.values())

    def _feed(self) -> None:
        """Feed inputs while there is room, and look up tasks that may be done."""
        flow, idle, now = self.flow, not self._at_work(), time.monotonic()
        # Tasks of a GPU pool without workers take no room: they are computed in a later phase.
        active = [n for n, pool in self.workers.of.items() if not pool.need.gpus or pool.actors]
        while not flow.exhausted and flow.open(0) < 2 * BATCH and (idle or sum(map(flow.open, active)) < INSIDE):
            flow.feed(BATCH // 4)
        patient = not idle and now - self.resolved < SCALE_SECONDS
        for number in range(len(flow.stages)):
            while flow.resolve(number, at_least=BATCH if patient else 1):
                pass
        if not patient:
            self.resolved = now

    # --- how many workers ---

    def _scale(self) -> None:
        now, workers, flow = time.monotonic(), self.workers, self.flow
        if now - self.scaled < SCALE_SECONDS:
            return
        self.scaled = now
        workers.look()
        for actor in workers.actors:
            actor.retiring |= all(flow.drained(number) for number in actor.pool.stages)
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
        self._show()

    def _make_room(self) -> None:
        """Where a pool has tasks and no free CPU for a worker, end an idle worker of another pool: pools take turns."""
        pools = [pool for pool in self.workers.pools if not pool.need.gpus]
        leaving = any(actor.retiring for pool in pools for actor in pool.actors)
        if leaving or not any(self._most(pool) and not pool.actors for pool in pools):
            return
        for pool in pools:
            if not pool.alone and not any(map(self.flow.waiting, pool.stages)):
                for actor in pool.actors:
                    if actor.name and not actor.calls:
                        actor.retiring = True
                        return

    def _show(self) -> None:
        """Update the progress display and the metrics."""
        for number, stage in enumerate(self.flow.stages):
            if self.flow.drained(number):
                self.flow.progress.leave(stage.name)
        progress, waiting = self.flow.progress, {s.name: self.flow.waiting(n) for n, s in enumerate(self.flow.stages)}
        progress.pools = self.workers.states()
        progress.tick()
        self.metrics.show(progress.pools, waiting)

    def _most(self, pool: WorkerPool) -> int:
        """How many workers the pool can use."""
        flow, first = self.flow, pool.stages[0]
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
        flow, first = self.flow, pool.stages[0]
        if not pool.need.gpus:
            return sum(flow.waiting(n) * self.seconds.get(n, 1.0) for n in pool.stages)
        seconds = self.turns.get(first) or self.seconds.get(first, flow.stages[first].resources.seconds)
        return None if seconds is None else seconds * flow.load(first) / pool.need.concurrency

    def _close_all(self) -> None:
        """Let every worker tear its stages down."""
        for actor in self.workers.actors:
            if actor.has("setup"):
                self.workers.kill(actor)
            else:
                self.workers.close(actor)
        until = time.monotonic() + CLOSE_SECONDS
        while self.workers.calls and time.monotonic() < until:
            self._collect()

    # --- tasks are sent ---

    def _dispatch(self) -> None:
        for pool in self.workers.pools:
            free = [actor for actor in pool.actors if actor.name and not actor.retiring]
            for actor in free:
                if pool.alone and not actor.calls and self._prepared(actor, pool.alone[0].stage):
                    self._send(actor, [pool.alone.popleft()], alone=True)
            free.sort(key=lambda actor: len(actor.calls))
            free = free[1:] if pool.alone else free  # one worker must become free for the suspects
            free = [actor for actor in free if not any(c.alone or c.kind == "setup" for c in actor.calls)]
            for actor in free:
                self._continue_item(actor)
            for depth in range(max(2, pool.need.in_hand)):
                for actor in free:
                    if len(actor.calls) == depth:
                        self._give(actor, depth)

    def _continue_item(self, actor: WorkerHandle) -> None:
        """Send a free worker the next stage of the item it computed last, whose clips it still has in memory."""
        if not actor.item_id or actor.calls:
            return
        for number in reversed(actor.pool.stages):
            task = self.flow.next_of(actor.item_id, number)
            if task and not self._held_back(number):
                if self._prepared(actor, number):
                    self._send(actor, [self.flow.take_this(task)])
                return
        actor.item_id = ""  # another worker has it: do not search for it again

    def _give(self, actor: WorkerHandle, depth: int) -> None:
        """Send a worker the most downstream tasks that wait for its pool."""
        flow, pool = self.flow, actor.pool
        for number in reversed(pool.stages):
            waiting, seconds = flow.waiting(number), self.seconds.get(number)
            if not waiting or self._held_back(number):
                continue
            if depth >= self._in_hand(pool, number) and (seconds is None or seconds > QUICK_SECONDS):
                continue
            if self._prepared(actor, number):
                count = 1 if seconds is None else int(CALL_SECONDS / max(seconds, 1e-4))
                self._send(actor, flow.take(number, max(1, min(count, MOST_ITEMS))))
            return

    def _in_hand(self, pool: WorkerPool, number: int) -> int:
        """Items that a worker should have in hand: on a GPU as many as keep it busy, and one for every idle worker."""
        need = pool.need
        if not need.overlaps:
            return need.concurrency
        if self.flow.waiting(number) <= sum(not actor.has("run") for actor in pool.actors):
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
        if number + 1 >= len(self.flow.stages):
            return False
        after = self.workers.of[number + 1]
        if after is self.workers.of[number] or not after.actors:
            return False
        return self.flow.waiting(number + 1) > 4 * len(after.actors) * max(2, after.need.concurrency) + MOST_ITEMS

    def _prepared(self, actor: WorkerHandle, number: int) -> bool:
        """Whether a worker has set a stage up; otherwise it is asked to, once it is free."""
        if number not in actor.ready and not actor.calls:
            self.workers.ask(actor, "setup", actor.handle.setup.remote(number), stage=number)
        return number in actor.ready

    def _send(self, actor: WorkerHandle, tasks: list[Task], *, alone: bool = False) -> None:
        ref = actor.handle.run.remote(tasks)
        self.workers.ask(actor, "run", ref, stage=tasks[0].stage, tasks=tasks, alone=alone)

    # --- answers arrive ---

    def _collect(self) -> None:
        refs = list(self.workers.calls)
        if not refs:
            time.sleep(0.02)
            return
        done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        if not done:
            done, _ = ray.wait(refs, num_returns=1, timeout=0.1)
        for ref in done:
            call = self.workers.calls.pop(ref, None)
            if call is None:  # of a worker that was killed meanwhile
                continue
            actor = call.actor
            try:
                answer = ray.get(ref)
            except RayError as err:
                if actor is None:  # the node is gone
                    self.faults.give_back(call.tasks)
                else:
                    self.faults.worker_lost(actor, call, err)
                continue
            if actor is None:
                self.faults.node_lives(call)
                continue
            actor.calls.remove(call)
            if actor.calls and actor.pool.need.in_hand == 1:
                actor.calls[0].begun = time.monotonic()
            self._answered(actor, call, answer)

    def _answered(self, actor: WorkerHandle, call: Call, answer: WorkerReply | tuple[str, int]) -> None:
        if isinstance(answer, tuple):
            actor.name = f"{answer[0][:8]}:{answer[1]}"
            actor.pool.starts_failed = 0
            return
        actor.busy += answer.seconds
        if call.kind == "close":
            if answer.error:
                self.flow.progress.say(f"a worker's teardown failed: {answer.error}")
            self.workers.kill(actor)
        elif call.kind == "setup":
            if answer.error:
                self.workers.kill(actor)
                self.faults.setup_failed(call.stage, answer.error, fatal=answer.fatal)
            else:
                actor.ready.add(call.stage)
                actor.first_gb = 0.0
                self.faults.setup_succeeded(call.stage)
        elif answer.late:
            self.faults.expire(actor, call, answer.late)
        else:
            single = len(call.tasks) == 1 and actor.pool.keeps_clips
            actor.item_id = call.tasks[0].item.item_id if single else ""
            for task, outcome in zip(call.tasks, answer.outcomes, strict=False):
                _average(self.seconds, task.stage, outcome.seconds)
                if actor.pool.need.overlaps:
                    _average(self.turns, task.stage, answer.seconds / len(answer.outcomes))
                self.flow.finish(task, outcome)
            if answer.fatal:
                raise FatalError(answer.error)
            actor.first_gb = actor.first_gb or answer.rss_gb
            # Its memory grew by as much as a worker may hold: a new worker replaces it.
            actor.retiring |= answer.rss_gb > actor.first_gb + actor.pool.growth_gb


def _average(means: dict[int, float], number: int, seconds: float) -> None:
    """Move a stage's mean by a tenth towards a new measurement."""
    means[number] = 0.9 * means.get(number, seconds) + 0.1 * seconds
