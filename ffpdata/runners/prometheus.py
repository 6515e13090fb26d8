"""Metrics for Prometheus, through Ray's own exporter; `docker/grafana/ffpdata.json` draws them."""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Mapping, Sequence

from ray.util.metrics import Counter, Gauge, Histogram

from ffpdata.runners.progress import PoolState
from ffpdata.runners.task import Outcome

OBSERVED_SECONDS = 0.1
"""Quicker items are counted and not timed: one observation costs more time than such an item."""
SECONDS_BOUNDS = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000]


class RayMetrics:
    """Items that ended by stage and status, their seconds, items that wait, workers and how busy they are."""

    def __init__(self) -> None:
        self._ended: Counted[tuple[str, str]] = Counted()
        self._items = Counter("ffpdata_items", "Items that ended.", tag_keys=("stage", "status"))
        about = "Seconds of items that took 0.1 s and more."
        self._seconds = Histogram("ffpdata_item_seconds", about, SECONDS_BOUNDS, tag_keys=("stage",))
        self._waiting = Gauge("ffpdata_waiting", "Items that wait.", tag_keys=("stage",))
        self._workers = Gauge("ffpdata_workers", "Workers that are up.", tag_keys=("pool",))
        self._busy = Gauge("ffpdata_busy", "Share of their time that workers worked, 0 to 1.", tag_keys=("pool",))

    def count(self, stage: str, outcome: Outcome) -> None:
        """An item ended."""
        self._ended[stage, outcome.status] += 1
        if outcome.seconds >= OBSERVED_SECONDS:
            self._seconds.observe(outcome.seconds, {"stage": stage})

    def show(self, pools: Sequence[PoolState], waiting: Mapping[str, int]) -> None:
        """Export how many items ended and wait, and how busy the workers are."""
        for (stage, status), count in self._ended.items():
            self._items.inc(count, {"stage": stage, "status": status})
        self._ended.clear()
        for stage, count in waiting.items():
            self._waiting.set(count, {"stage": stage})
        for pool in pools:
            name = pool.stages[0] if len(pool.stages) == 1 else f"{pool.stages[0]} to {pool.stages[-1]}"
            self._workers.set(pool.workers, {"pool": name})
            self._busy.set(pool.busy, {"pool": name})
