"""A simulation of a run: the scheduler of `--runner ray` with workers and items that only take their time.

Which worker gets which task, how many workers there are and where they are placed is decided by the very code of the
Ray runner (`runners/scheduling`, `runners/pools`, `runners/placement`). Here are the clock, the queues and the answers.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ffpdata.core.keys import is_of
from ffpdata.core.stage import Item, Stage
from ffpdata.planning.flow_model import ANY, TrackModel
from ffpdata.runners.flow import RECENT, load
from ffpdata.runners.placement import Node
from ffpdata.runners.pools import Call, Pools, WorkerHandle, WorkerPool
from ffpdata.runners.scheduling import SCALE_SECONDS, Scheduling
from ffpdata.runners.task import Task

CALL_OVERHEAD = 0.004
"""Seconds from the sending of a call to its answer, beside its work: benchmarks/results/engine.md."""
SETUP_SECONDS = 0.05
"""To set a stage without a model on a GPU up."""
AT_ONCE = 0.002
"""Answers that arrive within so many seconds are taken together, as the driver does."""
PATIENCE = 200
"""Ticks without any event after which a run that does not end is given up."""


@dataclass(frozen=True)
class Workload:
    """What arrives: inputs that are fed, and items that wait at stages from the start.

    `waiting` maps the number of a stage to the items of each task.
    """

    inputs: int
    waiting: Mapping[int, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class StartTimes:
    """Seconds until a worker is up, and until a model on a GPU is loaded."""

    worker: float = 3.0
    model: float = 120.0


@dataclass
class PoolUse:
    """Of a pool: its stages, whether on GPUs, the most workers that it had at once, and their busy seconds."""

    stages: list[str]
    gpus: float
    most: int = 0
    busy: float = 0.0


@dataclass
class Simulated:
    """How a simulated run went.

    Attributes:
        seconds: until the last item ended; of a run that got stuck, until then.
        gpu_seconds: of GPUs that computed, by their shares.
        pools: by their stages.
        stuck: stages whose items got no worker; empty in a run that ended.
        cost: GPU seconds of each input, of workers and servers; CPU seconds where no stage has a GPU.
        pairs: finished pairs of each input.
    """

    seconds: float
    gpu_seconds: float
    pools: list[PoolUse]
    stuck: list[str]
    cost: NDArray[np.float64]
    pairs: NDArray[np.float64]


class SimulatedQueues:
    """The items between the stages, with the fate that chance gives them."""

    def __init__(
        self,
        model: TrackModel,
        stages: Sequence[Stage],
        work: Workload,
        *,
        rng: np.random.Generator,
        spread: Mapping[str, float],
    ) -> None:
        self.model, self.stages, self.rng, self.spread = model, stages, rng, spread
        self.only = range(len(stages))
        self.left = work.inputs
        self.exhausted = work.inputs == 0
        self.queues: list[deque[Task]] = [deque() for _ in stages]
        self.opened, self.arrived, self.finished = ([0] * len(stages) for _ in range(3))
        self.pairs = np.zeros(work.inputs + 1)
        self._numbers = itertools.count()
        for number, tasks in work.waiting.items():
            for task, count in tasks.items():
                for _ in range(count):
                    self._arrive(self._item(task), number, work.inputs)

    def feed(self, count: int | None = None) -> int:
        """Take in inputs."""
        came = self.left if count is None else min(count, self.left)
        for _ in range(came):
            self.left -= 1
            self._arrive(self._item(ANY), 0, self.left)
        self.exhausted = self.left == 0
        return came

    def resolve(self, stage: int, *, at_least: int = 1) -> bool:  # noqa: ARG002 - nothing was done before
        """No task waits to be looked up."""
        return False

    def waiting(self, stage: int) -> int:
        """Tasks that can be taken."""
        return len(self.queues[stage])

    def open(self, stage: int) -> int:
        """Tasks at a stage."""
        return self.opened[stage]

    def load(self, stage: int) -> float:
        """Items that arrive at a stage per input."""
        return load(self.arrived[: stage + 1], self.finished[0])

    def drained(self, stage: int) -> bool:
        """Whether none is at the stage and none can come."""
        return self.exhausted and not any(self.opened[: stage + 1])

    def coming(self, stage: int) -> bool:
        """Whether something is before a stage."""
        return any(self.opened[:stage])

    def ended(self) -> bool:
        """Whether every item has ended."""
        return self.drained(len(self.stages) - 1)

    def take(self, stage: int, count: int = 1) -> list[Task]:
        """Take tasks of a stage."""
        queue = self.queues[stage]
        return [queue.popleft() for _ in range(min(count, len(queue)))]

    def next_of(self, item_id: str, stage: int) -> Task | None:
        """The next task of an item among those that came last."""
        queue = self.queues[stage]
        last = (queue[-place] for place in range(min(len(queue), RECENT), 0, -1))
        return next((task for task in last if is_of(task.item.item_id, item_id)), None)

    def take_this(self, task: Task) -> Task:
        """Take one task out of its queue."""
        self.queues[task.stage].remove(task)
        return task

    def fate(self, task: Task) -> tuple[bool, float]:
        """Whether an item passes its stage, and the seconds that this takes."""
        stage = self.model.stages[task.stage]
        rates = stage.of(task.item.values["task"])
        passes = bool(self.rng.random() < rates.passes[0])
        seconds = float((rates.seconds if passes else rates.seconds_lost)[0])
        if scatter := self.spread.get(stage.name, 0.0):
            width = float(np.sqrt(np.log1p(scatter**2)))
            seconds *= float(self.rng.lognormal(-(width**2) / 2, width))
        return passes, seconds

    def finish(self, task: Task, passes: bool) -> None:
        """Let an item go on, or end."""
        self.finished[task.stage] += 1
        self._settle(task, passes)

    def _item(self, task: str, parent: str = "") -> Item:
        name = f"{parent}/{next(self._numbers)}" if parent else f"{next(self._numbers)}"
        return Item(name, {"task": task, "luck": float(self.rng.random())})

    def _arrive(self, item: Item, number: int, origin: int) -> None:
        kind, luck = item.values["task"], item.values["luck"]
        while number < len(self.stages) and luck >= self.model.stages[number].of(kind).applies[0]:
            number += 1
        if number == len(self.stages):
            self.pairs[origin] += self.model.kept_of(kind)[0]
            return
        task = Task(item, "", number, origin=origin)
        self.arrived[number] += 1
        self.opened[number] += 1
        if self.rng.random() < self.model.stages[number].of(kind).computed[0]:
            self.queues[number].append(task)
        else:  # another item asks the same
            self._settle(task, self.fate(task)[0])

    def _settle(self, task: Task, passes: bool) -> None:
        self.opened[task.stage] -= 1
        if not passes:
            return
        kind = task.item.values["task"]
        children = self.model.stages[task.stage].of(kind).children
        if not children:
            self._arrive(task.item, task.stage + 1, task.origin)
            return
        for child, number in children.items():
            whole, part = divmod(float(number[0]), 1.0)
            for _ in range(int(whole) + bool(self.rng.random() < part)):
                self._arrive(self._item(child, task.item.item_id), task.stage + 1, task.origin)


class SimulatedPools(Pools):
    """Workers that answer after their time.

    Args:
        stages: the pipeline.
        nodes: the cluster.
        queues: tell what becomes of a task.
        start: how long workers and models take to start.
        served: stage numbers whose questions go to model servers.
        seats: questions that the servers answer at once; None for any number.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        nodes: Sequence[Node],
        queues: SimulatedQueues,
        start: StartTimes,
        *,
        served: Sequence[int] = (),
        seats: int | None = None,
    ) -> None:
        super().__init__(stages)
        self.nodes = {node.node_id: node for node in nodes}
        self.queues, self.starts, self.served = queues, start, frozenset(served)
        self.now = 1.0  # the scheduler takes 0 for "never"
        self.events: list[tuple[float, int, WorkerHandle, Call, list[tuple[bool, float]]]] = []
        self.uses = [PoolUse([stages[n].name for n in pool.stages], pool.need.gpus) for pool in self.pools]
        self._seats = [0.0] * seats if seats is not None else []
        self._limited = seats is not None
        self._free: dict[int, list[float]] = {}
        self._numbers = itertools.count()

    def start(self, pool: WorkerPool, node: Node, gpus: list[int]) -> None:
        """Start a worker."""
        actor = WorkerHandle(None, pool, node, gpus, born=self.now)
        pool.actors.append(actor)
        self._free[id(actor)] = [self.now] * (1 if pool.need.gpus else pool.need.concurrency)
        use = self.uses[self.pools.index(pool)]
        use.most = max(use.most, len(pool.actors))
        self._send(actor, Call("hello", actor), self.now + self.starts.worker)

    def end(self, actor: WorkerHandle) -> None:
        """Forget a worker."""
        self._free.pop(id(actor), None)

    def set_up(self, actor: WorkerHandle, number: int) -> None:
        """Load a stage."""
        seconds = self.starts.model if actor.pool.need.gpus else SETUP_SECONDS
        self._send(actor, Call("setup", actor, stage=number), self.now + seconds)

    def run(self, actor: WorkerHandle, tasks: list[Task], *, alone: bool = False) -> None:
        """Compute tasks one after the other, as soon as the worker, and for a question the server, has a place."""
        fates = [self.queues.fate(task) for task in tasks]
        seconds = sum(took for _, took in fates)
        places = self._free[id(actor)]
        begin = max(self.now, heapq.heappop(places))
        if self._limited and tasks[0].stage in self.served:
            begin = max(begin, heapq.heappop(self._seats))
            heapq.heappush(self._seats, begin + seconds)
        end = begin + seconds + CALL_OVERHEAD
        heapq.heappush(places, end)
        self._send(actor, Call("run", actor, tasks[0].stage, tasks, alone), end, fates)

    def close(self, actor: WorkerHandle) -> None:
        """End an idle worker."""
        self.kill(actor)

    def _send(
        self, actor: WorkerHandle, call: Call, until: float, fates: list[tuple[bool, float]] | None = None
    ) -> None:
        number = next(self._numbers)
        self.calls[number] = call
        actor.calls.append(call)
        heapq.heappush(self.events, (until, number, actor, call, fates or []))


class Simulation:
    """One simulated run.

    Args:
        model: of the track.
        stages: its stage objects, in the same order.
        nodes: the cluster; taken over.
        work: what arrives.
        start: how long workers and models take to start.
        seats: questions that model servers answer at once; None for any number.
        spread: stage to the coefficient of variation of its seconds.
        seed: of chance.
    """

    def __init__(
        self,
        model: TrackModel,
        stages: Sequence[Stage],
        nodes: Sequence[Node],
        work: Workload,
        start: StartTimes,
        *,
        seats: int | None = None,
        spread: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.queues = SimulatedQueues(model, stages, work, rng=np.random.default_rng(seed), spread=spread or {})
        served = [number for number, stage in enumerate(model.stages) if stage.served_gpus]
        self.pools = SimulatedPools(stages, nodes, self.queues, start, served=served, seats=seats)
        self.rules = Scheduling(self.queues, self.pools, lambda: self.pools.now)
        self.cost = np.zeros(work.inputs + 1)
        self.gpu_seconds = 0.0
        self.on_gpus = any(stage.need.gpus or stage.served_gpus for stage in model.stages)

    def run(self) -> Simulated:
        """Work until every item ended, or nothing can happen any more."""
        pools, quiet, last = self.pools, 0, self.pools.now
        before: tuple[int, int] | None = None
        while quiet < PATIENCE:
            self.rules.assign()
            if not self.rules.at_work() and self.queues.ended():
                break
            now = (sum(1 for _ in pools.actors), sum(actor.retiring for actor in pools.actors))
            due = pools.events[0][0] if pools.events else None
            tick = self.rules.scaled + SCALE_SECONDS + 1e-6  # rounding must not fall below it
            if due is None or (tick < due and (now != before or self.rules.scaled < last)):
                before = now
                quiet += due is None
                pools.now = max(tick, pools.now)
                continue
            quiet, last = 0, due
            pools.now = max(pools.now, due)
            while pools.events and pools.events[0][0] <= due + AT_ONCE:
                until, number, actor, call, fates = heapq.heappop(pools.events)
                if pools.calls.pop(number, None) is not None:
                    actor.calls.remove(call)
                    self._answered(actor, call, fates)
                    last = until
        waiting = [stage.name for number, stage in enumerate(self.model.stages) if self.queues.waiting(number)]
        stuck = [] if self.queues.ended() else waiting
        return Simulated(last - 1.0, self.gpu_seconds, pools.uses, stuck, self.cost[:-1], self.queues.pairs[:-1])

    def _answered(self, actor: WorkerHandle, call: Call, fates: list[tuple[bool, float]]) -> None:
        """As the Ray runner takes an answer in."""
        if call.kind == "hello":
            actor.name = "simulated"
        elif call.kind == "setup":
            actor.ready.add(call.stage)
        else:
            need = actor.pool.need
            actor.item_id = call.tasks[0].item.item_id if len(call.tasks) == 1 and actor.pool.keeps_clips else ""
            use = self.pools.uses[self.pools.pools.index(actor.pool)]
            for task, (passes, seconds) in zip(call.tasks, fates, strict=True):
                stage = self.model.stages[task.stage]
                use.busy += seconds
                self.gpu_seconds += seconds * need.gpus
                on_gpu = seconds * (need.gpus + stage.served_gpus)
                self.cost[task.origin] += on_gpu if self.on_gpus else seconds * need.cpus / need.concurrency
                self.rules.learn(task.stage, seconds, seconds if need.overlaps else None)
                self.queues.finish(task, passes)
