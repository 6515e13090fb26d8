"""Numbers for Prometheus, through Ray's own exporter: what `docker/grafana/ffpdata.json` draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray.util.metrics import Counter, Gauge, Histogram

from ffpdata.core.execute import Outcome
from ffpdata.runners.progress import Pool

SECONDS_BOUNDS = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000]


class RayMetrics:
    """Items that ended by stage and status, their seconds, items that wait, workers and how busy they are."""

    def __init__(self) -> None:
        self._items = Counter("ffpdata_items", "Items that ended.", tag_keys=("stage", "status"))
        self._seconds = Histogram("ffpdata_item_seconds", "Seconds per item.", SECONDS_BOUNDS, tag_keys=("stage",))
        self._waiting = Gauge("ffpdata_waiting", "Items that wait.", tag_keys=("stage",))
        self._workers = Gauge("ffpdata_workers", "Workers that are up.", tag_keys=("pool",))
        self._busy = Gauge("ffpdata_busy", "Share of their time that workers worked, 0 to 1.", tag_keys=("pool",))

    def count(self, stage: str, outcome: Outcome) -> None:
        """An item ended."""
        self._items.inc(1, {"stage": stage, "status": outcome.status})
        self._seconds.observe(outcome.seconds, {"stage": stage})

    def show(self, pools: Sequence[Pool], waiting: Mapping[str, int]) -> None:
        """Tell how many wait and how busy the workers are."""
        for stage, count in waiting.items():
            self._waiting.set(count, {"stage": stage})
        for pool in pools:
            name = pool.stages[0] if len(pool.stages) == 1 else f"{pool.stages[0]} to {pool.stages[-1]}"
            self._workers.set(pool.workers, {"pool": name})
            self._busy.set(pool.busy, {"pool": name})
