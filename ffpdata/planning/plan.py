"""A plan: what the pairs of one or several pipelines cost, in hours, files, questions, money and wall time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

from ffpdata.planning.cluster import Cluster, Wall
from ffpdata.planning.draws import interval
from ffpdata.planning.flow_model import Amounts, Draws, Expected, constant
from ffpdata.planning.settings import Assumption, PlanSettings


@dataclass
class TrackPlan:
    """One pipeline of a plan.

    Attributes:
        pipeline: its name.
        track: the track of its rows.
        expected: amounts of every stage.
        wall: simulated.
        seen: sources of the pilot that it rests on; 0 without one.
        ahead: sources that are to come.
        measured: stages whose numbers the pilot measured.
        rest: whether it is what is left of the pilot's run.
    """

    pipeline: str
    track: str
    expected: Expected
    wall: Wall
    seen: int = 0
    ahead: float = 0.0
    measured: list[str] = field(default_factory=list)
    rest: bool = False

    @property
    def work(self) -> Draws:
        """The seconds that bound it: of GPUs, or of CPUs where there are none."""
        total = self.expected.total
        return total.all_gpu_seconds if total.all_gpu_seconds[0] else total.cpu_seconds

    @property
    def wall_seconds(self) -> Draws:
        """Wall seconds; they scatter as the work does."""
        work = self.work
        return self.wall.seconds * (work / work[0] if work[0] else constant(1.0))


@dataclass
class Plan:
    """What `ffpdata plan` answers.

    Attributes:
        title: what was planned: the profile and what was changed.
        tracks: by pipeline.
        cluster: that it runs on.
        settings: what it assumed.
        assumptions: path and number of those that it rests on.
        warnings: what will not go as hoped.
    """

    title: str
    tracks: list[TrackPlan]
    cluster: Cluster
    settings: PlanSettings
    price: Draws
    cpu_price: Draws
    assumptions: list[tuple[str, Assumption]]
    warnings: list[str]

    @property
    def stages(self) -> dict[str, Amounts]:
        """Amounts by stage, of all pipelines together."""
        found: dict[str, Amounts] = {}
        for track in self.tracks:
            for name, amounts in track.expected.stages.items():
                found[name] = found[name] + amounts if name in found else amounts
        return found

    @property
    def total(self) -> Amounts:
        """All stages together."""
        return sum((track.expected.total for track in self.tracks), Amounts())

    @property
    def pairs(self) -> Draws:
        """Accepted pairs."""
        return sum((track.expected.all_pairs for track in self.tracks), constant(0.0))

    @property
    def wall_seconds(self) -> Draws:
        """Wall seconds of all pipelines, one after the other."""
        return sum((track.wall_seconds for track in self.tracks), constant(0.0))

    @property
    def tasks(self) -> dict[str, Draws]:
        """Accepted pairs by task."""
        found: dict[str, Draws] = {}
        for track in self.tracks:
            for task, count in track.expected.pairs.items():
                found[task] = found.get(task, constant(0.0)) + count
        return found

    @property
    def quantities(self) -> dict[str, Draws]:
        """Name to amount: what is shown and what JSON has at its top."""
        total = self.total
        gpu_hours, cpu_hours = total.all_gpu_seconds / 3600, total.cpu_seconds / 3600
        wall = self.wall_seconds / 3600
        rented = wall * self.cluster.gpus
        return {
            "gpu_hours": gpu_hours,
            "cpu_hours": cpu_hours,
            "wall_hours": wall,
            "rented_gpu_hours": rented,
            "storage_gb": (total.written + total.exported) / 1e9,
            "run_gb": total.written / 1e9,
            "export_gb": total.exported / 1e9,
            "clips": sum((track.expected.fed for track in self.tracks), constant(0.0)),
            "pairs": self.pairs,
            "requests": total.requests,
            "prompt_tokens": total.prompt_tokens,
            "completion_tokens": total.completion_tokens,
            "usd": gpu_hours * self.price + cpu_hours * self.cpu_price,
            "rented_usd": rented * self.price + cpu_hours * self.cpu_price,
        }

    @property
    def per_pair(self) -> dict[str, Draws]:
        """The same for one accepted pair."""
        pairs = self.pairs
        if not np.any(pairs > 0):
            return {}
        names = ("gpu_hours", "cpu_hours", "requests", "prompt_tokens", "completion_tokens", "usd", "storage_gb")
        return {name: self.quantities[name] / np.maximum(pairs, 1e-9) for name in names}

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, as `ffpdata plan --json` prints it."""
        from ffpdata.planning.shown import as_dict

        return as_dict(self)

    def __str__(self) -> str:
        """Return the plan as a page of text."""
        from ffpdata.planning.shown import as_text

        return as_text(self)

    def interval(self, draws: Draws) -> tuple[float, float]:
        """Return the interval of a number."""
        return interval(draws, self.settings.confidence)

    def halving(self) -> dict[str, int | None]:
        """Track to the clips of a pilot, those that it has included, at which the interval of the cost is half as wide.

        None where no pilot gets there, because the clips that are to come scatter by more than that.
        """
        return {track.track: self._halving(track) for track in self.tracks}

    def _halving(self, track: TrackPlan) -> int | None:
        if track.seen and track.ahead:
            # The variance of the mean over those to come around that of those seen goes as 1/seen + 1/ahead.
            wanted = (1 / track.seen + 1 / track.ahead) / 4 - 1 / track.ahead
            return math.ceil(1 / wanted) if wanted > 0 else None
        pairs = track.expected.all_pairs
        if not pairs[0]:
            return None
        cost = track.work / np.maximum(pairs, 1e-9)
        low, high = self.interval(cost)
        half_width = (high - low) / 2 / cost[0] if cost[0] else 0.0
        scatter = relative_scatter(track.wall)
        if not half_width or not scatter:
            return None
        z = NormalDist().inv_cdf((1 + self.settings.confidence) / 2)
        return math.ceil((z * scatter / (half_width / 2)) ** 2)


def relative_scatter(wall: Wall) -> float:
    """Standard deviation that one clip brings to the cost of a pair, relative to that cost, from a simulated run."""
    cost, pairs = wall.run.cost, wall.run.pairs
    if len(cost) < 2 or not pairs.sum() or not cost.sum():
        return 0.0
    ratio = cost.sum() / pairs.sum()
    return float(np.std((cost - ratio * pairs) / pairs.mean(), ddof=1) / ratio)
