"""The workers of a Ray run: processes on nodes, and the calls to them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ffpdata.core.stage import Stage
from ffpdata.runners.placement import Node
from ffpdata.runners.pools import Call, Pools, WorkerHandle, WorkerPool
from ffpdata.runners.shipped_stages import ShippedStages
from ffpdata.runners.task import Task
from ffpdata.runners.worker import Worker
from ffpdata.storage.store import Store

NODES_SECONDS = 5.0


def _ping() -> None:
    """Runs on a node to show that it answers."""


class WorkerPools(Pools):
    """All workers of a run.

    Args:
        stages: the pipeline; each worker is sent it once.
        store: the run folder.
        max_attempts: how often a worker tries a RetryableError.
    """

    def __init__(self, stages: Sequence[Stage], store: Store, max_attempts: int) -> None:
        super().__init__(stages)
        self._looked = 0.0
        self._shipped = ray.put(ShippedStages(stages))
        self._store, self._max_attempts = store, max_attempts
        self.look(now=True)

    def look(self, *, now: bool = False) -> None:
        """Update the list of nodes, which may join and leave during a run."""
        if not now and time.monotonic() - self._looked < NODES_SECONDS:
            return
        self._looked = time.monotonic()
        live = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
        for node_id in set(self.nodes) - set(live):
            del self.nodes[node_id]
        for node_id in set(live) - set(self.nodes):
            has = live[node_id]
            gpus = [1.0] * int(has.get("GPU", 0))
            self.nodes[node_id] = Node(node_id, has.get("CPU", 0.0), has.get("memory", 0.0) / 1e9, gpus)

    def start(self, pool: WorkerPool, node: Node, gpus: list[int]) -> None:
        """Start a worker's process on a node."""
        options = {
            "num_cpus": 0 if pool.need.gpus else pool.need.cpus,
            "num_gpus": pool.need.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": pool.need.in_hand,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.node_id, soft=False),
        }
        threads = max(1, int(pool.need.cpus))
        made: Any = ray.remote(Worker)
        handle = made.options(**options).remote(
            self._shipped,
            self._store,
            self._max_attempts,
            memory_gb=pool.memory_limit_gb,
            threads=threads,
            keep_clips=pool.keeps_clips,
            overlap=pool.need.in_hand if pool.need.overlaps else 1,
        )
        actor = WorkerHandle(handle, pool, node, gpus)
        pool.actors.append(actor)
        self.ask(actor, "hello", handle.hello.remote())

    def set_up(self, actor: WorkerHandle, number: int) -> None:
        """Ask a worker to set a stage up."""
        self.ask(actor, "setup", actor.handle.setup.remote(number), stage=number)

    def run(self, actor: WorkerHandle, tasks: list[Task], *, alone: bool = False) -> None:
        """Send tasks of one stage to a worker."""
        self.ask(actor, "run", actor.handle.run.remote(tasks), stage=tasks[0].stage, tasks=tasks, alone=alone)

    def ping(self, node: Node, call: Call, error: str) -> None:
        """Ask whether a node answers, because a worker on it died during a call."""
        strategy = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        probe: Any = ray.remote(_ping)
        ref = probe.options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote()
        self.ask(None, "ping", ref, stage=call.stage, tasks=call.tasks, alone=call.alone, error=error)

    def close(self, actor: WorkerHandle) -> None:
        """Let an idle worker tear its stages down; that is its last call."""
        if not actor.ready:
            self.kill(actor)
        elif not actor.has("close"):
            self.ask(actor, "close", actor.handle.close.remote())

    def end(self, actor: WorkerHandle) -> None:
        """End a worker's process."""
        with suppress(RayError, ValueError):
            ray.kill(actor.handle, no_restart=True)
