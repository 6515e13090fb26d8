"""The Ray runner: the same items through the same stages, on all cores of this machine or on a cluster.

Ray places processes, carries messages and reports dead workers. Which worker gets which task, and how many there are,
follows from the rules of `runners/scheduling`. Only this process commits rows.
"""

from __future__ import annotations

import time

import ray
from ray.exceptions import RayError

from ffpdata.core.errors import FatalError
from ffpdata.processes.ray_cluster import ray_cluster
from ffpdata.runners.faults import Faults
from ffpdata.runners.flow import Flow
from ffpdata.runners.interrupts import Stop
from ffpdata.runners.placement import refuse
from ffpdata.runners.pools import Call, WorkerHandle
from ffpdata.runners.prometheus import RayMetrics
from ffpdata.runners.scheduling import CALL_SECONDS, Scheduling
from ffpdata.runners.worker import WorkerReply
from ffpdata.runners.worker_pools import WorkerPools
from ffpdata.storage.store import Store

CLOSE_SECONDS = 30.0


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


class Scheduler(Scheduling):
    """Assigns tasks to workers on Ray.

    Args:
        flow: the items.
        store: the run folder.
        stop: says when to stop.
        max_attempts: how often a worker tries a RetryableError.
    """

    def __init__(self, flow: Flow, store: Store, stop: Stop, max_attempts: int) -> None:
        self.workers: WorkerPools
        super().__init__(flow, WorkerPools(flow.stages, store, max_attempts))
        self.flow, self.stop = flow, stop
        self.faults = Faults(flow, self.workers, lambda number: self.seconds.update({number: CALL_SECONDS}))
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
                    self.assign()
                if not self.at_work() and (self.stop.asked or self.flow.ended()):
                    break
                self._collect()
                self.faults.check_times()
                if self.stop.guard:
                    self.stop.guard()
            self._close_all()
            self.show()
            self.stop.check()
        finally:
            for actor in self.workers.actors:
                self.workers.kill(actor)

    def show(self) -> None:
        """Update the progress display and the metrics."""
        for number, stage in enumerate(self.flow.stages):
            if self.flow.drained(number):
                self.flow.progress.leave(stage.name)
        progress, waiting = self.flow.progress, {s.name: self.flow.waiting(n) for n, s in enumerate(self.flow.stages)}
        progress.pools = self.workers.states()
        progress.tick()
        self.metrics.show(progress.pools, waiting)

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
                turn = answer.seconds / len(answer.outcomes) if actor.pool.need.overlaps else None
                self.learn(task.stage, outcome.seconds, turn)
                self.flow.finish(task, outcome)
            if answer.fatal:
                raise FatalError(answer.error)
            actor.first_gb = actor.first_gb or answer.rss_gb
            # Its memory grew by as much as a worker may hold: a new worker replaces it.
            actor.retiring |= answer.rss_gb > actor.first_gb + actor.pool.growth_gb
