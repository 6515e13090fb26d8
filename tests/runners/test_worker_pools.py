"""What the scheduler knows of its workers."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from ffpdata.core.stage import Resources
from ffpdata.runners.placement import Node
from ffpdata.runners.pools import Pools, WorkerHandle, WorkerPool


def test_calls_at_the_same_time_share_a_worker() -> None:
    pool = WorkerPool([0], Resources(concurrency=4))
    node = Node("n", 8.0, 8.0, [])
    pool.actors.append(WorkerHandle(None, pool, node, [], name="a", born=time.monotonic() - 100, busy=200.0))
    pools = SimpleNamespace(pools=[pool], _names=["ask"])
    [state] = Pools.states(pools)  # type: ignore[arg-type]
    assert state.busy == pytest.approx(0.5, abs=0.01), "200 s of calls in 100 s with room for 4 at a time"
