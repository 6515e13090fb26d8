"""What goes wrong on workers, and whose doing it was.

When a worker dies, all that it held is suspect and is run again alone; two workers that die over an item alone convict
it. A node's death convicts nobody. An item that takes too long fails, and costs its worker. A stage that cannot be set
up ends the run.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

from ffpdata.core.errors import FatalError
from ffpdata.runners.flow import Flow
from ffpdata.runners.task import Outcome, Task
from ffpdata.runners.worker_pools import Call, WorkerHandle, WorkerPools

SETUP_SECONDS = 1800.0
PING_SECONDS = 60.0
SETUP_FAILURES = 3
"""So many set-ups in a row that fail end the run."""
LOST_BIRTHS = 30
"""So many workers in a row that were lost before they were up, for whatever reason, end it too."""


class Faults:
    """Takes what went wrong back into the flow, or ends the run.

    Args:
        flow: the items.
        crew: the workers.
        one_by_one: called with a stage whose items must not travel together any more.
    """

    def __init__(self, flow: Flow, crew: WorkerPools, one_by_one: Callable[[int], None]) -> None:
        self.flow, self.crew, self.one_by_one = flow, crew, one_by_one
        self._setups: dict[int, int] = defaultdict(int)

    def setup_worked(self, number: int) -> None:
        """Forget the set-ups of a stage that failed before."""
        self._setups[number] = 0

    def bury(self, actor: WorkerHandle, first: Call, err: RayError) -> None:
        """A worker is gone, or out of reach: its node tells whether that was its own doing."""
        if isinstance(err, RayTaskError):  # the worker's own code broke: the run's fault, not an item's
            raise FatalError(f"a worker failed: {err}") from err
        calls, pool = [first, *(call for call in actor.calls if call is not first)], actor.pool
        self.crew.kill(actor)
        self.crew.look(now=True)
        lost = "out of reach" if isinstance(err, ActorUnavailableError) else "died"
        for call in calls:
            if call.kind == "setup":
                self.setup_failed(call.stage, str(err))
            elif call.kind == "hello" and actor.node.node_id in self.crew.nodes:
                pool.births_failed += 1
                broken = "creation task" in str(err)  # its own code; anything else may be a node that goes away
                if pool.births_failed >= (SETUP_FAILURES if broken else LOST_BIRTHS):
                    raise FatalError(f"workers cannot be started: {err}") from err
            elif call.kind == "run":  # also one that waited: the answer before it may have been lost on its way
                self.crew.ping(actor.node, call, f"the worker {actor.name} {lost}: {_short(err)}")

    def judge(self, call: Call) -> None:
        """The node lives, so the worker died of itself: an item that was alone twice is the cause."""
        for task in call.tasks:
            task.suspect = True
            task.deaths += call.alone
            if task.deaths >= 2:
                self._convict(task, "worker_died", call.error, 0.0)
            else:
                self.crew.of[task.stage].alone.append(task)

    def _convict(self, task: Task, reason: str, error: str, seconds: float) -> None:
        attempt = task.attempt + max(1, task.deaths)
        started = time.time() - seconds
        outcome = Outcome("failed", task.key, reason, error, attempt=attempt, started_at=started, seconds=seconds)
        self.flow.finish(task, outcome)

    def give_back(self, tasks: Sequence[Task]) -> None:
        """Nobody's fault: to the front of the queue, or to those that run alone."""
        for task in reversed(tasks):
            if task.suspect:
                self.crew.of[task.stage].alone.appendleft(task)
            else:
                self.flow.give_back([task])

    def setup_failed(self, number: int, error: str, *, fatal: bool = False) -> None:
        """A stage could not be set up on a worker.

        Raises:
            FatalError: it cannot be on any, or was not so several times in a row.
        """
        self._setups[number] += 1
        if fatal or self._setups[number] >= SETUP_FAILURES:
            raise FatalError(f"stage {self.flow.stages[number].name!r} could not start: {error}")

    def check_times(self) -> None:
        """End what takes longer than it may."""
        now = time.monotonic()
        for call in list(self.crew.calls.values()):
            actor, waited = call.actor, now - call.begun
            if call.kind == "ping" and waited > PING_SECONDS:
                self.crew.forget(call)
                self.give_back(call.tasks)
            if actor is None or (actor.pool.need.concurrency == 1 and actor.calls and actor.calls[0] is not call):
                continue
            if call.kind == "setup" and waited > SETUP_SECONDS:
                self.crew.kill(actor)
                self.setup_failed(call.stage, f"it took longer than {SETUP_SECONDS:.0f} s")
            elif call.kind == "run" and waited > self.flow.stages[call.stage].resources.timeout and call in actor.calls:
                self._expire(actor, call, waited)

    def _expire(self, actor: WorkerHandle, call: Call, waited: float) -> None:
        """An item took too long: end its worker; what else that held is nobody's fault."""
        others = [task for other in actor.calls if other is not call for task in other.tasks]
        self.crew.kill(actor)
        self.give_back(others)
        stage = self.flow.stages[call.stage]
        if len(call.tasks) > 1:
            self.give_back(call.tasks)
            self.one_by_one(call.stage)  # to see which it is
        else:
            limit = f"the limit is --set resources.{stage.name}.timeout=SECONDS"
            error = f"took longer than {stage.resources.timeout:g} s; {limit}"
            self._convict(call.tasks[0], "timeout", error, round(waited, 3))


def _short(err: Exception) -> str:
    text = " ".join(str(err).split())
    return text if len(text) < 600 else text[:600] + " ..."
