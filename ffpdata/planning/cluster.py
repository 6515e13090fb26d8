"""The machines of a plan: their nodes, the GPUs of model servers among them, and the wall time of a simulated run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ffpdata.core.held import SERVED
from ffpdata.core.stage import Stage, of_role
from ffpdata.doctor import memory_gb as memory_here
from ffpdata.planning.assumed import asks
from ffpdata.planning.flow_model import Arrivals, Expected, TrackModel
from ffpdata.planning.settings import NodeShape
from ffpdata.planning.simulation import Simulated, Simulation, StartTimes, Workload
from ffpdata.runners.placement import Node, refuse

MOST_GPUS = 32
MOST_CPUS = 512
"""A larger cluster is simulated by a share of it, with as large a share of the work."""
MOST_TASKS = 4_000
"""More work is simulated by a sample, and its wall time extrapolated from that of half the sample."""
CORE_GB = 4.0
"""Main memory of a machine per core, where neither is said."""
IDLE = 0.8
"""Below this share of its time a GPU counts as idle."""


@dataclass(frozen=True)
class Cluster:
    """What a plan may use.

    Attributes:
        gpus: in all, those of model servers included.
        cpus: cores in all.
        memory_gb: main memory in all.
        node_gpus: GPUs of one machine.
        server_gpus: those of `gpus` that model servers hold.
        seats: questions that the servers answer at once; None without servers.
        gpu_memory_gb: memory of a GPU.
    """

    gpus: int
    cpus: float
    memory_gb: float
    node_gpus: int
    gpu_memory_gb: float
    server_gpus: int = 0
    seats: int | None = None

    @classmethod
    def of(
        cls,
        gpus: int,
        shape: NodeShape,
        *,
        cpus: float | None = None,
        memory_gb: float | None = None,
        node_gpus: int | None = None,
    ) -> Cluster:
        """Return a cluster of equal machines; without GPUs it is one machine, by default this one."""
        each = node_gpus or shape.gpus
        if gpus:
            cores, memory = cpus or gpus * shape.cpus_per_gpu, memory_gb or gpus * shape.memory_gb_per_gpu
        else:
            cores = cpus or float(os.cpu_count() or 1)
            memory = memory_gb or (CORE_GB * cpus if cpus else memory_here() or CORE_GB)
        return cls(gpus, float(cores), float(memory), each, shape.gpu_memory_gb)

    @property
    def worker_gpus(self) -> int:
        """GPUs that workers have."""
        return self.gpus - self.server_gpus

    def nodes(self) -> list[Node]:
        """Machines with the GPUs that workers have."""
        count = max(1, math.ceil(self.worker_gpus / self.node_gpus))
        left, nodes = self.worker_gpus, []
        for number in range(count):
            here = min(self.node_gpus, left)
            left -= here
            nodes.append(Node(f"node-{number:03d}", self.cpus / count, self.memory_gb / count, [1.0] * here))
        return nodes

    def part(self, share: float) -> Cluster:
        """Return a share of the cluster for workers."""
        gpus = max(1, round(self.worker_gpus * share)) if self.worker_gpus else 0
        seats = max(1, round(self.seats * share)) if self.seats is not None else None
        return replace(
            self, gpus=gpus, server_gpus=0, cpus=self.cpus * share, memory_gb=self.memory_gb * share, seats=seats
        )

    def with_servers(self, stages: Sequence[Stage], expected: Expected) -> Cluster:
        """Give model servers as many of the GPUs as their share of the GPU seconds, whole servers and one at least."""
        served = next((server for stage in stages if (server := server_of(stage))), None)
        if served is None:
            return self
        cards, sequences = served
        total = expected.total
        share = float(total.served_gpu_seconds[0] / max(total.all_gpu_seconds[0], 1e-9))
        count = max(1, math.ceil(share * self.gpus / cards))
        count = max(1, min(count, (self.gpus - 1) // cards))
        if count * cards >= self.gpus:  # too few for both: they come on top
            return replace(self, gpus=self.gpus + cards, server_gpus=cards, seats=sequences)
        return replace(self, server_gpus=count * cards, seats=count * sequences)


def server_of(stage: Stage) -> tuple[int, int] | None:
    """GPUs of one model server that a stage asks, and the questions that it answers at once."""
    for spec in of_role(stage.specs, SERVED).values():
        server = spec.runtime.get("server") or {}
        if asks(stage) and server and not server.get("shared"):
            return int(server.get("cards", 1)), int(server.get("sequences", 1))
    return None


@dataclass(frozen=True)
class Wall:
    """Wall time by simulation.

    Attributes:
        seconds: of the whole work.
        busy: share of the time that the workers' GPUs compute; None without GPUs.
        share: of the work that was simulated.
        run: the simulated run.
    """

    seconds: float
    busy: float | None
    share: float
    run: Simulated


def wall_time(
    model: TrackModel,
    stages: Sequence[Stage],
    cluster: Cluster,
    arrivals: Arrivals,
    *,
    expected: Expected,
    start: StartTimes,
    spread: Mapping[str, float],
) -> Wall:
    """Simulate a run, or a sample of it on a share of the cluster, and return the wall time of all of it.

    Args:
        model: of the track.
        stages: its stage objects.
        cluster: that it runs on.
        arrivals: inputs, and items that wait.
        expected: what `expect` says of them.
        start: how long workers and models take to start.
        spread: stage to the coefficient of variation of its seconds.
    """
    worker_gpus = cluster.worker_gpus
    share = min(1.0, MOST_GPUS / worker_gpus if worker_gpus else 1.0, MOST_CPUS / cluster.cpus)
    part = cluster.part(share) if share < 1 else cluster
    tasks = sum(float(stage.items[0]) for stage in expected.stages.values())
    sample = min(1.0, MOST_TASKS / max(tasks * share, 1.0))

    def simulate(of_all: float) -> Simulated:
        inputs, waiting = _portion(arrivals, of_all)
        simulation = Simulation(
            model, stages, part.nodes(), Workload(inputs, waiting), start, seats=part.seats, spread=spread
        )
        if sample < 1:
            # In a long run inputs are fed as items end: so they must be in the sample.
            simulation.rules.inside = max(4 * MOST_GPUS, inputs // 8)
            simulation.rules.batch = max(32, simulation.rules.inside // 4)
        return simulation.run()

    whole = simulate(share * sample)
    seconds, gpu_seconds = whole.seconds, whole.gpu_seconds
    if sample < 1:
        half = simulate(share * sample / 2)
        times = 2 * (1 / sample - 1)
        seconds += times * max(0.0, whole.seconds - half.seconds)
        gpu_seconds += times * max(0.0, whole.gpu_seconds - half.gpu_seconds)
    part_gpus = part.worker_gpus
    busy = min(1.0, gpu_seconds / (seconds * part_gpus)) if part_gpus and seconds else None
    return Wall(seconds, busy, share * sample, whole)


def _portion(arrivals: Arrivals, share: float) -> tuple[int, dict[int, dict[str, int]]]:
    """A share of what arrives, in whole items: inputs, and items that wait."""
    inputs = max(1, round(sum(float(n[0]) for n in arrivals.get(0, {}).values()) * share)) if arrivals.get(0) else 0
    if not sum(float(n[0]) for n in arrivals.get(0, {}).values()):
        inputs = 0
    waiting = {
        number: {task: math.ceil(float(count[0]) * share) for task, count in tasks.items() if count[0] > 0}
        for number, tasks in arrivals.items()
        if number
    }
    return inputs, waiting


def misfits(stages: Sequence[Stage], cluster: Cluster) -> Iterator[str]:
    """Say which stages fit nowhere, and which must take turns."""
    nodes = cluster.nodes()
    for stage in stages:
        need = stage.resources
        if problem := refuse({stage.name: need}, nodes[:1] if cluster.gpus else nodes):  # the machines are alike
            yield problem
        elif need.gpus and need.gpu_memory_gb and need.gpu_memory_gb > cluster.gpu_memory_gb:
            yield (
                f"stage {stage.name!r} needs {need.gpu_memory_gb:g} GB of GPU memory, and a card has "
                f"{cluster.gpu_memory_gb:g}. Choose larger cards (--set plan.node.gpu_memory_gb=...), or a profile "
                "whose models are smaller"
            )
    if cluster.worker_gpus:
        needed = sum(stage.resources.gpus for stage in stages)
        if needed > cluster.worker_gpus:
            yield (
                f"the stages on GPUs need {needed:g} GPUs to run at the same time, and {cluster.worker_gpus} "
                f"{'is' if cluster.worker_gpus == 1 else 'are'} there: they take turns"
            )


def idle(wall: Wall, cluster: Cluster) -> Iterator[str]:
    """Say whether GPUs are idle, and what they wait for."""
    if wall.busy is None or wall.busy >= IDLE or wall.run.stuck:
        return
    slowest = max((use for use in wall.run.pools if use.most), key=lambda use: use.busy / use.most, default=None)
    if slowest is None:
        return
    names, advice = (
        ", ".join(slowest.stages),
        f"give these more cores (--cpus, now {cluster.cpus:g}) or take fewer GPUs",
    )
    if slowest.gpus:
        advice = (
            "the other GPU stages hold theirs meanwhile; resources.STAGE.seconds closer to the truth divide them better"
        )
    yield f"GPUs are busy {wall.busy:.0%} of the time. The busiest workers are those of {names}: {advice}"
