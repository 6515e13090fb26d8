"""Failures of workers, and which item or stage caused them.

When a worker dies, its tasks are suspects, and each is run again alone on a worker; a task fails when two workers died
while they ran it alone. A node that is lost makes no task a suspect. A task that exceeds its timeout fails, and its
worker is killed. A stage that cannot be set up ends the run.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

from ffpdata.core.errors import FatalError
from ffpdata.core.stage import Stage
from ffpdata.runners.flow import Flow
from ffpdata.runners.pools import Call, WorkerHandle
from ffpdata.runners.task import Outcome, Task
from ffpdata.runners.worker_pools import WorkerPools

SETUP_SECONDS = 1800.0
PING_SECONDS = 60.0
SETUP_FAILURES = 3
"""This many failed set-ups of a stage in a row end the run."""
LOST_STARTS = 30
"""This many workers of a pool in a row that were lost before they were up, for whatever reason, end the run, too."""


class Faults:
    """Returns tasks of failed workers to the queues, fails them, or ends the run.

    Args:
        flow: the queues.
        workers: all pools.
        one_by_one: called with a stage whose tasks must no longer be sent together.
    """

    def __init__(self, flow: Flow, workers: WorkerPools, one_by_one: Callable[[int], None]) -> None:
        self.flow, self.workers, self.one_by_one = flow, workers, one_by_one
        self._setups: dict[int, int] = defaultdict(int)

    def setup_succeeded(self, number: int) -> None:
        """Reset the count of a stage's failed set-ups."""
        self._setups[number] = 0

    def worker_lost(self, actor: WorkerHandle, first: Call, err: RayError) -> None:
        """A worker is gone or out of reach: ping its node, to know whether the worker or the node failed."""
        if isinstance(err, RayTaskError):  # an error in Worker itself, which no item can cause
            raise FatalError(f"a worker failed: {err}") from err
        calls, pool = [first, *(call for call in actor.calls if call is not first)], actor.pool
        self.workers.kill(actor)
        self.workers.look(now=True)
        lost = "out of reach" if isinstance(err, ActorUnavailableError) else "died"
        for call in calls:
            if call.kind == "setup":
                self.setup_failed(call.stage, str(err))
            elif call.kind == "hello" and actor.node.node_id in self.workers.nodes:
                pool.starts_failed += 1
                broken = "creation task" in str(err)  # an error in its constructor; any other may be a lost node
                if pool.starts_failed >= (SETUP_FAILURES if broken else LOST_STARTS):
                    raise FatalError(f"workers cannot be started: {err}") from err
            elif call.kind == "run":  # also one that waited: an earlier answer may have been lost with the worker
                self.workers.ping(actor.node, call, f"the worker {actor.name} {lost}: {_short(err)}")

    def node_lives(self, call: Call) -> None:
        """The node answers, so the worker died over its tasks: one that two workers ran alone fails."""
        for task in call.tasks:
            task.suspect = True
            task.deaths += call.alone
            if task.deaths >= 2:
                self._fail(task, "worker_died", call.error, 0.0)
            else:
                self.workers.of[task.stage].alone.append(task)

    def _fail(self, task: Task, reason: str, error: str, seconds: float) -> None:
        attempt = task.attempt + max(1, task.deaths)
        started = time.time() - seconds
        outcome = Outcome("failed", task.key, reason, error, attempt=attempt, started_at=started, seconds=seconds)
        self.flow.finish(task, outcome)

    def give_back(self, tasks: Sequence[Task]) -> None:
        """Put tasks that caused nothing back to the front of their queue, or among the suspects."""
        for task in reversed(tasks):
            if task.suspect:
                self.workers.of[task.stage].alone.appendleft(task)
            else:
                self.flow.give_back([task])

    def setup_failed(self, number: int, error: str, *, fatal: bool = False) -> None:
        """A stage could not be set up on a worker.

        Raises:
            FatalError: it can be set up on no worker, or failed several times in a row.
        """
        self._setups[number] += 1
        if fatal or self._setups[number] >= SETUP_FAILURES:
            raise FatalError(f"stage {self.flow.stages[number].name!r} could not start: {error}")

    def check_times(self) -> None:
        """End calls that exceed their time limit."""
        now = time.monotonic()
        for call in list(self.workers.calls.values()):
            actor, waited = call.actor, now - call.begun
            if call.kind == "ping" and waited > PING_SECONDS:
                self.workers.forget(call)
                self.give_back(call.tasks)
            if actor is None or (actor.pool.need.in_hand == 1 and actor.calls and actor.calls[0] is not call):
                continue
            if call.kind == "setup" and waited > SETUP_SECONDS:
                self.workers.kill(actor)
                self.setup_failed(call.stage, f"it took longer than {SETUP_SECONDS:.0f} s")
            elif call.kind == "run" and waited > _limit(actor, self.flow.stages[call.stage]) and call in actor.calls:
                if len(actor.calls) > 1 and actor.pool.need.overlaps:
                    self._suspect(actor)
                else:
                    self.expire(actor, call, waited)

    def _suspect(self, actor: WorkerHandle) -> None:
        """A worker with several items in hand is stuck so that it cannot say over which: each is run again alone."""
        tasks = [task for call in actor.calls for task in call.tasks]
        self.workers.kill(actor)
        for task in tasks:
            task.suspect = True
            self.workers.of[task.stage].alone.append(task)

    def expire(self, actor: WorkerHandle, call: Call, waited: float) -> None:
        """A task took too long: kill its worker, and return the worker's other tasks to their queues."""
        others = [task for other in actor.calls if other is not call for task in other.tasks]
        self.workers.kill(actor)
        self.give_back(others)
        stage = self.flow.stages[call.stage]
        if len(call.tasks) > 1:
            self.give_back(call.tasks)
            self.one_by_one(call.stage)  # to find out which of them it is
        else:
            limit = f"the limit is --set resources.{stage.name}.timeout=SECONDS"
            error = f"took longer than {stage.resources.timeout:g} s; {limit}"
            self._fail(call.tasks[0], "timeout", error, round(waited, 3))


def _limit(actor: WorkerHandle, stage: Stage) -> float:
    """Seconds of a call. Items that take turns wait for each other: their worker counts, this is for one that hangs."""
    need = actor.pool.need
    return stage.resources.timeout * (need.in_hand if need.overlaps else 1)


def _short(err: Exception) -> str:
    text = " ".join(str(err).split())
    return text if len(text) < 600 else text[:600] + " ..."
