"""The Ray runner: the same items through the same stages, on all cores of this machine or on a cluster.

Ray places processes, carries messages and notices deaths. The scheduler here decides who works on what. Stages that ask
for the same CPUs and memory share a pool whose workers set a stage up when they first need it; a stage that asks for a
GPU has a pool of its own. A worker goes on with the item that it was at; otherwise downstream work goes first. Full
queues hold upstream back, and rows are committed by this process alone.
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
from ffpdata.runners.placement import grow, refuse
from ffpdata.runners.prometheus import RayMetrics
from ffpdata.runners.task import Task
from ffpdata.runners.worker import WorkerReply
from ffpdata.runners.worker_pools import Call, WorkerHandle, WorkerPool, WorkerPools
from ffpdata.storage.store import Store

SCALE_SECONDS = 0.5
CLOSE_SECONDS = 30.0
CALL_SECONDS = 0.05
"""Short items travel together, up to about so much work in one call."""
MOST_ITEMS = 32
QUICK_SECONDS = 0.1
"""A worker of a stage whose items are quicker than this always has its next call waiting."""
INSIDE = 4096
"""Inputs that are let in ahead of the work."""


def run_ray(flow: Flow, store: Store, stop: Stop, *, max_attempts: int = 3) -> None:
    """Take all items through all stages on Ray: on the cluster of `RAY_ADDRESS`, else on this machine.

    Raises:
        FatalError: a stage fits on no node, or cannot start.
        KeyboardInterrupt: it was asked to stop; what was running is finished.
    """
    if flow.idle():  # all is known: no cluster is needed
        return
    with ray_cluster():
        stop.listen()  # ray.init sets a handler of its own
        Scheduler(flow, store, stop, max_attempts).run()


class Scheduler:
    """Who works on what.

    Args:
        flow: the items.
        store: the run folder.
        stop: says when to stop.
        max_attempts: how often a worker tries a RetryableError.
    """

    def __init__(self, flow: Flow, store: Store, stop: Stop, max_attempts: int) -> None:
        self.flow, self.stop = flow, stop
        self.crew = WorkerPools(flow.stages, store, max_attempts)
        self.seconds: dict[int, float] = {}
        """Per stage what an item takes, as measured."""
        self.faults = Faults(flow, self.crew, lambda number: self.seconds.update({number: CALL_SECONDS}))
        self.scaled = self.resolved = 0.0
        self.metrics = RayMetrics()
        flow.progress.listeners.append(self.metrics.count)

    def run(self) -> None:
        """Work until every item ended."""
        needs = {stage.name: stage.resources for n, stage in enumerate(self.flow.stages) if n in self.flow.only}
        if problem := refuse(needs, list(self.crew.nodes.values())):
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
            self._tell()
            self.stop.check()
        finally:
            for actor in self.crew.actors:
                self.crew.kill(actor)

    def _at_work(self) -> bool:
        return any(call.kind in ("run", "ping") for call in self.crew.calls.values())

    def _feed(self) -> None:
        """Let inputs in as long as there is room, and answer what the manifest knows."""
        flow, idle, now = self.flow, not self._at_work(), time.monotonic()
        # What waits for a later phase takes no room: it has no workers yet.
        active = [n for n, pool in self.crew.of.items() if not pool.need.gpus or pool.actors]
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
        now, crew, flow = time.monotonic(), self.crew, self.flow
        if now - self.scaled < SCALE_SECONDS:
            return
        self.scaled = now
        crew.look()
        for actor in crew.actors:
            actor.retiring |= all(flow.drained(number) for number in actor.pool.stages)
            if actor.retiring and not actor.calls:
                crew.close(actor)
        for on_gpu in (False, True):
            pools = {str(i): pool for i, pool in enumerate(crew.pools) if bool(pool.need.gpus) is on_gpu}
            grow(
                {name: len(pool.actors) for name, pool in pools.items()},
                {name: self._cost(pool) for name, pool in pools.items()},
                {name: self._most(pool) for name, pool in pools.items()},
                lambda name, pools=pools: crew.spawn(pools[name]),  # type: ignore[misc]
                stop_when_full=on_gpu,
            )
        self._make_room()
        self._tell()

    def _make_room(self) -> None:
        """Where a pool has work and no room on any CPU, let an idle worker of another one go: they take turns."""
        pools = [pool for pool in self.crew.pools if not pool.need.gpus]
        leaving = any(actor.retiring for pool in pools for actor in pool.actors)
        if leaving or not any(self._most(pool) and not pool.actors for pool in pools):
            return
        for pool in pools:
            if not pool.alone and not any(map(self.flow.waiting, pool.stages)):
                for actor in pool.actors:
                    if actor.name and not actor.calls:
                        actor.retiring = True
                        return

    def _tell(self) -> None:
        """Show where the run stands."""
        for number, stage in enumerate(self.flow.stages):
            if self.flow.drained(number):
                self.flow.progress.leave(stage.name)
        progress, waiting = self.flow.progress, {s.name: self.flow.waiting(n) for n, s in enumerate(self.flow.stages)}
        progress.pools = self.crew.states()
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
            return 0  # nothing is on its way: a model is not loaded for nothing
        more = not flow.exhausted or flow.coming(first)
        return 10**6 if more else -(-work // pool.need.concurrency)

    def _cost(self, pool: WorkerPool) -> float | None:
        """Seconds of one worker per input on a GPU, None until the first items told; on CPUs, of all that waits."""
        flow, first = self.flow, pool.stages[0]
        if not pool.need.gpus:
            return sum(flow.waiting(n) * self.seconds.get(n, 1.0) for n in pool.stages)
        seconds = self.seconds.get(first, flow.stages[first].resources.seconds)
        return None if seconds is None else seconds * flow.load(first) / pool.need.concurrency

    def _close_all(self) -> None:
        """Let every worker tear its stages down."""
        for actor in self.crew.actors:
            if actor.has("setup"):
                self.crew.kill(actor)
            else:
                self.crew.close(actor)
        until = time.monotonic() + CLOSE_SECONDS
        while self.crew.calls and time.monotonic() < until:
            self._collect()

    # --- work goes out ---

    def _dispatch(self) -> None:
        for pool in self.crew.pools:
            free = [actor for actor in pool.actors if actor.name and not actor.retiring]
            for actor in free:
                if pool.alone and not actor.calls and self._prepared(actor, pool.alone[0].stage):
                    self._send(actor, [pool.alone.popleft()], alone=True)
            free.sort(key=lambda actor: len(actor.calls))
            free = free[1:] if pool.alone else free  # one must come free for the suspects
            free = [actor for actor in free if not any(c.alone or c.kind == "setup" for c in actor.calls)]
            for actor in free:
                self._go_on(actor)
            for depth in range(max(2, pool.need.concurrency)):
                for actor in free:
                    if len(actor.calls) == depth:
                        self._give(actor, depth)

    def _go_on(self, actor: WorkerHandle) -> None:
        """Give a worker that came free the next stage of the item that it was at: its clips are at hand there."""
        if not actor.item_id or actor.calls:
            return
        for number in reversed(actor.pool.stages):
            task = self.flow.next_of(actor.item_id, number)
            if task and not self._held_back(number):
                if self._prepared(actor, number):
                    self._send(actor, [self.flow.take_this(task)])
                return
        actor.item_id = ""  # it went elsewhere: idle workers must not ask for it again and again

    def _give(self, actor: WorkerHandle, depth: int) -> None:
        """Give a worker the most downstream work that there is for it."""
        flow, pool = self.flow, actor.pool
        for number in reversed(pool.stages):
            waiting, seconds = flow.waiting(number), self.seconds.get(number)
            if not waiting or self._held_back(number):
                continue
            if depth >= pool.need.concurrency and (seconds is None or seconds > QUICK_SECONDS):
                continue
            if self._prepared(actor, number):
                count = 1 if seconds is None else int(CALL_SECONDS / max(seconds, 1e-4))
                self._send(actor, flow.take(number, max(1, min(count, MOST_ITEMS))))
            return

    def _held_back(self, number: int) -> bool:
        """Whether what comes after a stage has enough to do; a later phase has no workers and takes everything."""
        if number + 1 >= len(self.flow.stages):
            return False
        after = self.crew.of[number + 1]
        if after is self.crew.of[number] or not after.actors:
            return False
        return self.flow.waiting(number + 1) > 4 * len(after.actors) * max(2, after.need.concurrency) + MOST_ITEMS

    def _prepared(self, actor: WorkerHandle, number: int) -> bool:
        """Say whether a worker has a stage ready; where it has not, have it set up."""
        if number not in actor.ready and not actor.calls:
            self.crew.ask(actor, "setup", actor.handle.setup.remote(number), stage=number)
        return number in actor.ready

    def _send(self, actor: WorkerHandle, tasks: list[Task], *, alone: bool = False) -> None:
        ref = actor.handle.run.remote(tasks)
        self.crew.ask(actor, "run", ref, stage=tasks[0].stage, tasks=tasks, alone=alone)

    # --- answers come in ---

    def _collect(self) -> None:
        refs = list(self.crew.calls)
        if not refs:
            time.sleep(0.02)
            return
        done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        if not done:
            done, _ = ray.wait(refs, num_returns=1, timeout=0.1)
        for ref in done:
            call = self.crew.calls.pop(ref, None)
            if call is None:  # of a worker that was killed meanwhile
                continue
            actor = call.actor
            try:
                answer = ray.get(ref)
            except RayError as err:
                if actor is None:  # the node is gone
                    self.faults.give_back(call.tasks)
                else:
                    self.faults.bury(actor, call, err)
                continue
            if actor is None:
                self.faults.judge(call)
                continue
            actor.calls.remove(call)
            if actor.calls and actor.pool.need.concurrency == 1:
                actor.calls[0].begun = time.monotonic()
            self._answered(actor, call, answer)

    def _answered(self, actor: WorkerHandle, call: Call, answer: WorkerReply | tuple[str, int]) -> None:
        if isinstance(answer, tuple):
            actor.name = f"{answer[0][:8]}:{answer[1]}"
            actor.pool.births_failed = 0
            return
        actor.busy += answer.seconds
        if call.kind == "close":
            if answer.error:
                self.flow.progress.say(f"a worker's teardown failed: {answer.error}")
            self.crew.kill(actor)
        elif call.kind == "setup":
            if answer.error:
                self.crew.kill(actor)
                self.faults.setup_failed(call.stage, answer.error, fatal=answer.fatal)
            else:
                actor.ready.add(call.stage)
                actor.first_gb = 0.0
                self.faults.setup_worked(call.stage)
        else:
            single = len(call.tasks) == 1 and actor.pool.keeps_clips
            actor.item_id = call.tasks[0].item.item_id if single else ""
            for task, outcome in zip(call.tasks, answer.outcomes, strict=False):
                before = self.seconds.get(task.stage, outcome.seconds)
                self.seconds[task.stage] = 0.9 * before + 0.1 * outcome.seconds
                self.flow.finish(task, outcome)
            if answer.fatal:
                raise FatalError(answer.error)
            actor.first_gb = actor.first_gb or answer.rss_gb
            # It grew by as much as it may hold: a fresh one takes its place.
            actor.retiring |= answer.rss_gb > actor.first_gb + actor.pool.need.memory_gb
