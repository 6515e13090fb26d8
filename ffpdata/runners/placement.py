"""How many workers each pool gets, and on which nodes, so that the slowest stage is as fast as possible.

Arithmetic on the resources of the nodes. A pool's rate is its workers over its seconds per item; the rate of a run is
that of its slowest pool, so every further worker goes to that pool, as long as a node has room.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ffpdata.core.stage import Resources

_EPS = 1e-6
FILES_SHARE = 0.02
"""Below this share of an item's seconds at the GPU it is not worth to read the next item ahead."""


@dataclass
class Node:
    """Free resources of one machine: CPUs, GB of memory, and the free fraction of every GPU."""

    node_id: str
    cpus: float
    memory_gb: float
    gpus: list[float] = field(default_factory=list)

    def take(self, need: Resources) -> list[int] | None:
        """Reserve what a worker needs and return its GPUs; None where it does not fit.

        A worker on a GPU reserves no CPU: it mostly waits for its GPU, and a machine may have many GPUs and few cores.
        """
        if need.gpus:
            chosen = self._choose(need.gpus)
            if chosen is None:
                return None
            for gpu in chosen:
                self.gpus[gpu] -= min(need.gpus, 1.0)
            return chosen
        if self.cpus + _EPS < need.cpus or self.memory_gb + _EPS < need.memory_gb:
            return None
        self.cpus -= need.cpus
        self.memory_gb -= need.memory_gb
        return []

    def give(self, need: Resources, gpus: Sequence[int]) -> None:
        """Free what `take` reserved."""
        for gpu in gpus:
            self.gpus[gpu] += min(need.gpus, 1.0)
        if not need.gpus:
            self.cpus += need.cpus
            self.memory_gb += need.memory_gb

    def _choose(self, gpus: float) -> list[int] | None:
        if gpus >= 1:
            whole = [i for i, free in enumerate(self.gpus) if free > 1 - _EPS]
            return whole[: int(gpus)] if len(whole) >= gpus else None
        # The fullest GPU that still has room, so that other GPUs stay whole.
        fitting = [i for i, free in enumerate(self.gpus) if free + _EPS >= gpus]
        return [min(fitting, key=lambda i: (self.gpus[i], i))] if fitting else None


def place(need: Resources, nodes: Sequence[Node]) -> tuple[Node, list[int]] | None:
    """Choose the node for one more worker and reserve its share there; None where it fits nowhere.

    A fraction of a GPU goes to the fullest GPU with room, anything else to the node with most room.
    """
    if 0 < need.gpus < 1:
        free = [min((f for f in node.gpus if f + _EPS >= need.gpus), default=2.0) for node in nodes]
        order = sorted(range(len(nodes)), key=lambda i: (free[i], nodes[i].node_id))
    else:
        room = [sum(node.gpus) if need.gpus else node.cpus for node in nodes]
        order = sorted(range(len(nodes)), key=lambda i: (-room[i], nodes[i].node_id))
    for i in order:
        taken = nodes[i].take(need)
        if taken is not None:
            return nodes[i], taken
    return None


def refuse(needs: Mapping[str, Resources], nodes: Sequence[Node]) -> str | None:
    """The error for a stage that does not fit on any node, even if it had the node alone; None where all fit."""
    for name, need in needs.items():
        if any(Node(node.node_id, node.cpus, node.memory_gb, list(node.gpus)).take(need) is not None for node in nodes):
            continue
        wants = f"{need.gpus:g} GPU" if need.gpus else f"{need.cpus:g} CPU and {need.memory_gb:g} GB of memory"
        there = ", ".join(
            f"{node.node_id[:8]}: {node.cpus:g} CPU, {node.memory_gb:.1f} GB, {len(node.gpus)} GPU" for node in nodes
        )
        return (
            f"stage {name!r} needs {wants} on one node, and no node has that ({there}). Add such a node, or lower what "
            f"it asks for with --set resources.{name}.{'gpus' if need.gpus else 'memory_gb'}=..."
        )
    return None


def needed_in_hand(turn: float, files: float, most: int) -> int:
    """How many items a worker must have in hand to keep its GPU busy, where each waits for files for `files` seconds.

    One computes, others wait for their files, two may wait for the turn, to begin and to return after their files were
    written, and one more is read early, because a clip is read slower while others are written. Where files take next
    to nothing of an item's time it is one: a second would only wait, in memory, while another worker could have it.

    Args:
        turn: seconds of an item at the GPU.
        files: seconds of an item while the GPU is free for others.
        most: the largest answer.
    """
    if files <= FILES_SHARE * turn:
        return 1
    return min(most, 4 + math.ceil(files / max(turn, _EPS)))


def grow(
    workers: Mapping[str, int],
    cost: Mapping[str, float | None],
    most: Mapping[str, int],
    put: Callable[[str], bool],
    *,
    stop_when_full: bool,
) -> None:
    """Add workers: first one for every pool in order, then one after another for the slowest pool.

    Args:
        workers: how many each pool has, in the order of the pipeline; where not all fit, the first pools are served
            first, and the others wait until these free their resources.
        cost: seconds of one worker that each pool still has to do; None while unknown.
        most: how many workers each can use.
        put: starts one more worker of a pool and says whether it fits.
        stop_when_full: where a worker of the slowest pool fits nowhere, no other pool gets one, because that would not
            make the run faster.
    """
    count = dict(workers)
    for name, has in workers.items():
        if not has and most[name] > 0:
            if not put(name):
                break
            count[name] = 1
    placed = [name for name in count if count[name]]
    if any(cost[name] is None for name in placed):
        return
    while placed:
        slowest = max(placed, key=lambda name: (cost[name] or 0.0) / count[name])
        if count[slowest] < most[slowest] and put(slowest):
            count[slowest] += 1
        elif stop_when_full and count[slowest] < most[slowest]:
            return
        else:
            placed.remove(slowest)
