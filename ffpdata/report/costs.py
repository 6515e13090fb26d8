"""What a run's items cost: hours of GPUs where a track has any, else of processors; per stage and per accepted pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from ffpdata.core.held import gpus_of
from ffpdata.core.pipeline import Pipeline
from ffpdata.manifests.sql_text import literal, quote


@dataclass(frozen=True)
class Rate:
    """How the cost of an item of a stage is counted: `seconds` times `gpus`, or processor seconds."""

    on_gpus: bool
    gpus: float

    def sql(self, prefix: str = "") -> str:
        """Return an SQL expression for the seconds of a row; `prefix` stands before the columns' names."""
        if self.on_gpus:
            return f"coalesce({quote(f'{prefix}seconds')}, 0) * {self.gpus:g}"
        return f"coalesce({quote(f'{prefix}cpu_seconds')}, 0)"


@dataclass(frozen=True)
class TrackCost:
    """The cost of one track.

    Attributes:
        unit: `GPU` or `CPU`.
        hours: by stage.
        rates: by stage.
        pairs: accepted ones.
    """

    unit: str
    hours: dict[str, float]
    rates: dict[str, Rate]
    pairs: int

    @property
    def total(self) -> float:
        """Hours of all stages."""
        return sum(self.hours.values())

    @property
    def per_pair(self) -> float | None:
        """Hours for one accepted pair; None without one."""
        return self.total / self.pairs if self.pairs else None


def rates_of(pipeline: Pipeline) -> dict[str, Rate]:
    """Return how the cost of each stage is counted: in GPU time, if one of them holds a GPU."""
    gpus = {entry.name: gpus_of(pipeline, entry) for entry in pipeline.stages}
    return {name: Rate(any(gpus.values()), count) for name, count in gpus.items()}


def track_cost(
    connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, stages: Sequence[str], pairs: int
) -> TrackCost:
    """Add up the rows of a track that hold now.

    Args:
        connection: to the views of a run.
        pipeline: of the track.
        stages: of the track that have a view.
        pairs: its accepted pairs.
    """
    rates = rates_of(pipeline)
    hours = {}
    for stage in stages:
        rate = rates.get(stage, Rate(False, 0.0))
        mine = f"from {quote(stage)} where track = {literal(pipeline.track)}"
        # The rows of one fan-out share its time; items with the same question share one answer.
        once = f"select key, max({rate.sql()}) as cost {mine} group by key"
        [(seconds,)] = connection.execute(f"select coalesce(sum(cost), 0) from ({once})").fetchall()
        hours[stage] = float(seconds) / 3600
    return TrackCost("GPU" if any(rate.on_gpus for rate in rates.values()) else "CPU", hours, rates, pairs)
