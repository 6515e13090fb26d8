"""Pools of workers, the nodes that they hold, and the calls that they have not answered yet, whoever runs them.

The Ray runner and the simulation of `ffpdata plan` have workers of their own kind; where one is placed, what it holds
and what is known of it is the same for both.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ffpdata.core.stage import Resources, Stage
from ffpdata.runners.placement import Node, place
from ffpdata.runners.progress import PoolState
from ffpdata.runners.task import Task

ITEM_GB = 1.0
"""Memory of one more item in hand: 81 frames of 1280x720 with their edit, masks and depth."""


@dataclass(eq=False)
class Call:
    """A call to a worker that it has not answered yet.

    Attributes:
        kind: `hello`, `setup`, `run` or `close`; `ping` asks whether a node answers, and has no actor.
        alone: the task is a suspect, and the worker runs nothing else.
        begun: when the worker began, as far as this process knows.
        error: of a ping, the error of the worker that was lost.
    """

    kind: str
    actor: WorkerHandle | None
    stage: int = -1
    tasks: list[Task] = field(default_factory=list)
    alone: bool = False
    begun: float = field(default_factory=time.monotonic)
    error: str = ""


@dataclass(eq=False)
class WorkerHandle:
    """A worker as the scheduler sees it.

    Attributes:
        calls: not answered yet, oldest first.
        ready: the stages that it has set up.
        name: empty until it answered `hello`.
        busy: seconds of all its calls, or of their turns; those of calls at the same time are added up.
        first_gb: memory after its first tasks.
        item_id: the item it computed last, where its clips are still in memory.
        retiring: it is sent no more tasks.
    """

    handle: Any
    pool: WorkerPool
    node: Node
    gpus: list[int]
    calls: list[Call] = field(default_factory=list)
    ready: set[int] = field(default_factory=set)
    name: str = ""
    born: float = field(default_factory=time.monotonic)
    busy: float = 0.0
    first_gb: float = 0.0
    item_id: str = ""
    retiring: bool = False

    def has(self, *kinds: str) -> bool:
        """Whether a call of one of these kinds is open."""
        return any(call.kind in kinds for call in self.calls)


@dataclass(eq=False)
class WorkerPool:
    """Workers of one kind: the stages they serve, what each needs, and the suspects that wait for a worker alone."""

    stages: list[int]
    need: Resources
    actors: list[WorkerHandle] = field(default_factory=list)
    alone: deque[Task] = field(default_factory=deque)
    starts_failed: int = 0

    @property
    def keeps_clips(self) -> bool:
        """Whether a worker may be sent the next stage of the item it computed last."""
        return len(self.stages) > 1 and self.need.concurrency == 1

    @property
    def memory_limit_gb(self) -> float:
        """Above this a worker without a GPU ends itself; 0, no limit, on GPUs, where models differ too much."""
        return 0.0 if self.need.gpus else 2 * self.need.memory_gb + 0.5

    @property
    def growth_gb(self) -> float:
        """A worker whose memory grew by more than this since its first tasks is replaced."""
        return self.need.memory_gb + (ITEM_GB * (self.need.in_hand - 1) if self.need.overlaps else 0.0)


def pools_of(needs: Sequence[Resources]) -> list[WorkerPool]:
    """Make one pool for the CPU stages that ask for the same resources, and one for each stage on a GPU."""
    pools: dict[Any, WorkerPool] = {}
    for number, need in enumerate(needs):
        name = number if need.gpus else (need.cpus, need.memory_gb, need.concurrency)
        pools.setdefault(name, WorkerPool([], need)).stages.append(number)
    return list(pools.values())


class Pools:
    """The workers of a run. A subclass starts and ends them and carries the calls.

    Args:
        stages: the pipeline.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.pools = pools_of([stage.resources for stage in stages])
        self.of = {number: pool for pool in self.pools for number in pool.stages}
        self.calls: dict[Any, Call] = {}
        self.nodes: dict[str, Node] = {}
        self._names = [stage.name for stage in stages]

    # --- what a subclass overrides ---

    def look(self, *, now: bool = False) -> None:
        """Update the list of nodes, which may join and leave during a run."""

    def start(self, pool: WorkerPool, node: Node, gpus: list[int]) -> None:
        """Start a worker of a pool on a node, where its resources were reserved."""
        raise NotImplementedError

    def end(self, actor: WorkerHandle) -> None:
        """End a worker's process."""
        raise NotImplementedError

    def set_up(self, actor: WorkerHandle, number: int) -> None:
        """Ask a worker to set a stage up."""
        raise NotImplementedError

    def run(self, actor: WorkerHandle, tasks: list[Task], *, alone: bool = False) -> None:
        """Send tasks of one stage to a worker."""
        raise NotImplementedError

    def close(self, actor: WorkerHandle) -> None:
        """Let an idle worker tear its stages down; that is its last call."""
        raise NotImplementedError

    # --- what is the same for all ---

    @property
    def actors(self) -> Iterator[WorkerHandle]:
        """Every worker there is."""
        return (actor for pool in self.pools for actor in list(pool.actors))

    def spawn(self, pool: WorkerPool) -> bool:
        """Start one more worker on a node with room; False where no node has."""
        placed = place(pool.need, list(self.nodes.values()))
        if placed is None:
            return False
        self.start(pool, *placed)
        return True

    def ask(self, actor: WorkerHandle | None, kind: str, ref: Any, **more: Any) -> None:
        """Record a call that was sent."""
        call = Call(kind, actor, **more)
        self.calls[ref] = call
        if actor:
            actor.calls.append(call)

    def forget(self, *calls: Call) -> None:
        """Ignore the answers to these calls."""
        if calls:
            self.calls = {ref: call for ref, call in self.calls.items() if call not in calls}

    def kill(self, actor: WorkerHandle) -> None:
        """End a worker's process and remove it; the caller takes care of its tasks."""
        self.end(actor)
        actor.pool.actors.remove(actor)
        actor.node.give(actor.pool.need, actor.gpus)
        self.forget(*actor.calls)
        actor.calls.clear()

    def states(self) -> list[PoolState]:
        """Workers of every pool, and how busy they have been."""
        now, states = time.monotonic(), []
        for pool in self.pools:
            up = [actor for actor in pool.actors if actor.name]
            room = sum(now - actor.born for actor in up) * pool.need.concurrency
            busy = round(min(1.0, sum(actor.busy for actor in up) / room), 3) if room else 0.0
            names = [self._names[number] for number in pool.stages]
            states.append(PoolState(names, len(up), len(pool.actors) - len(up), busy))
        return states
