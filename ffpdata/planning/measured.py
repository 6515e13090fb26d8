"""The model of a pipeline after a pilot: what the pilot's manifests measured, in place of what was assumed.

Intervals come from a bootstrap over sources, because items of one source are alike. Draws hold the scatter of the
work to come too: a mean over `ahead` sources scatters around that of the `seen` ones with the variance
s2 (1/seen + 1/ahead), which is that of a resample of seen * ahead / (seen + ahead) sources. A share that was seen at 0
or 1 is not certain: one item more, drawn from Jeffreys' prior, is divided among the stages of every draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ffpdata.core.held import SERVED
from ffpdata.core.pipeline import Pipeline
from ffpdata.core.stage import Stage, of_role
from ffpdata.media.geometry import Geometry
from ffpdata.planning.assumed import AssumedModel, clip_of, spec_of
from ffpdata.planning.denoising import pixels, relative_cost
from ffpdata.planning.flow_model import ANY, Draws, Rates, TrackModel
from ffpdata.planning.pilot import Pilot, StageSums, Sums

FEW = 3
"""Below so many sources the scatter of a mean cannot be told from them: that of the assumption is taken."""


@dataclass
class Measured:
    """A model with what was measured in it.

    Attributes:
        stages: names of the stages whose numbers were measured.
        assumed: names of those that no item of the pilot came to, or that another model does now.
    """

    model: TrackModel
    stages: list[str]
    assumed: list[str]


def effective_sources(seen: float, ahead: float) -> int:
    """Sources to resample so that a draw scatters as a mean over `ahead` sources around that of `seen` ones."""
    return max(1, round(seen * ahead / (seen + ahead))) if ahead > 0 else max(1, round(seen))


class MeasuredModel:
    """Lays a pilot over an assumed model.

    Args:
        assumed: the model of the pipeline as it is to run.
        pilot: of the same track.
        ahead: sources that are to come.
    """

    def __init__(self, assumed: AssumedModel, pilot: Pilot, ahead: float) -> None:
        self.assumed, self.pilot = assumed, pilot
        self.was: Pipeline = pilot.pipeline
        self.before = {stage.name: stage for stage in self.was.build()}
        size = effective_sources(pilot.sources, ahead)
        count = assumed.sampler.count
        rng = assumed.sampler.rng("sources")
        equal = np.full(pilot.sources, 1 / pilot.sources)
        weights = rng.multinomial(size, equal, size=count) if pilot.sources else np.zeros((count, 0))
        self.weights: NDArray[np.float64] = np.vstack([np.ones(pilot.sources), weights])
        of_each = 1 / max(1, len(self.was.stages))  # the prior is of a whole chain, divided among its stages
        self.prior = np.concatenate([[0.0], of_each * rng.beta(0.5, 0.5, count)])
        self.one_more = np.concatenate([[0.0], np.full(count, of_each)])

    def build(self) -> Measured:
        """Return the model."""
        model = self.assumed.build()
        now = {stage.name: stage for stage in self.assumed.stages}
        measured: list[str] = []
        left: list[str] = []
        for stage in model.stages:
            sums = self.pilot.stages.get(stage.name, {})
            same = stage.name in self.before and self._same_models(now[stage.name], self.before[stage.name])
            known = [task for task in sums if same and sums[task].sums["entered"].sum()]
            for task in known:
                stage.rates[task] = self.rates(now[stage.name], task, stage.of(task), sums[task])
            (measured if known else left).append(stage.name)
        for task, (seen, kept) in self.pilot.curated.items():
            if seen.sum():
                model.kept[task] = self.share(kept, seen)
        for column, size in self.pilot.file_bytes.items():
            if column in ("source_video", "target_video", "mask_video"):
                scale = pixels(self.assumed.clip) / pixels(Geometry(**self.was.clip))
                model.pair_bytes = model.pair_bytes + size * scale - self.assumed.file_bytes(column)
        model.pair_bytes = np.maximum(model.pair_bytes, 0)
        return Measured(model, measured, left)

    def rates(self, stage: Stage, task: str, old: Rates, found: StageSums) -> Rates:
        """Measured rates of a stage and task; what was not measured stays as assumed."""
        sums = found.sums
        cost = self._relative_cost(stage, task)
        enough = np.count_nonzero(sums["entered"]) >= FEW
        lost = sums["computed"] - sums["computed_passed"]

        def mean(name: str, over: Sums, assumed: Draws, by: float = 1.0) -> Draws:
            if not over.sum():
                return assumed
            measured = self.ratio(sums[name], over) * by
            if enough or assumed[0] <= 0 or len(assumed) == 1:
                return measured
            scattered: Draws = measured[0] * assumed / assumed[0]
            return scattered

        rates = Rates(
            applies=old.applies,
            passes=self.share(sums["passed"], sums["entered"]),
            computed=np.minimum(1.0, self.ratio(sums["computed"], sums["entered"])),
            seconds=mean("seconds_passed", sums["computed_passed"], old.seconds, cost),
            cpu_seconds=mean("cpu_seconds", sums["computed"], old.cpu_seconds, cost),
            requests=mean("requests", sums["computed"], old.requests),
            prompt_tokens=mean("prompt_tokens", sums["computed"], old.prompt_tokens),
            completion_tokens=mean("completion_tokens", sums["computed"], old.completion_tokens),
            written=self._written(sums, old),
            children=old.children,
        )
        rates.seconds_lost = mean("seconds_lost", lost, rates.seconds, cost)
        if np.any((old.applies > 0) & (old.applies < 1)):  # for some inputs only: stills
            came = sums["entered"] + found.skipped
            rates.applies = self.share(sums["entered"], came)
        if found.children and self._same_fan_out(stage):
            rates.children = {child: self.ratio(number, sums["passed"]) for child, number in found.children.items()}
        return rates

    def ratio(self, amount: Sums, over: Sums) -> Draws:
        """Amount per unit of `over`, of all sources and of every resample; one without any is like all."""
        amounts, overs = self.weights @ amount, self.weights @ over
        whole = amounts[0] / overs[0] if overs[0] else 0.0
        return np.where(overs > 0, amounts / np.maximum(overs, 1e-12), whole)

    def share(self, passed: Sums, entered: Sums) -> Draws:
        """Share that passed, of all sources and of every resample with its part of Jeffreys' prior."""
        more, all_of = self.weights @ passed + self.prior, self.weights @ entered + self.one_more
        share: Draws = np.clip(more / np.maximum(all_of, 1e-12), 0, 1)
        return share

    def _written(self, sums: dict[str, Sums], old: Rates) -> Draws:
        if not sums["files_known"].sum():
            return old.written
        row = 1e3 * self.assumed.number("kilobytes_per_row", self.assumed.settings.kilobytes_per_row)
        scale = pixels(self.assumed.clip) / pixels(Geometry(**self.was.clip))
        return row + scale * self.ratio(sums["written"], sums["files_known"])

    def _relative_cost(self, stage: Stage, task: str) -> float:
        """What an item costs by the settings and the clip of the plan, over what it cost in the pilot."""
        before = self.before[stage.name]
        clip, was = clip_of(stage, self.assumed.clip), clip_of(before, Geometry(**self.was.clip))
        if any(spec.runtime.get("endpoint") for spec in of_role(stage.specs, SERVED).values()):
            return 1.0
        return relative_cost(spec_of(stage, task), spec_of(before, task), clip, was)

    def _same_fan_out(self, stage: Stage) -> bool:
        """Whether a stage fans out as it did in the pilot."""
        same_input = self.assumed.pipeline.input == self.was.input
        return same_input and bool(stage.settings == self.before[stage.name].settings)

    @staticmethod
    def _same_models(now: Stage, before: Stage) -> bool:
        """Whether the same back ends and checkpoints do the work, at whatever settings."""
        here = {(role, spec.backend, spec.model) for role, spec in now.specs.items()}
        return here == {(role, spec.backend, spec.model) for role, spec in before.specs.items()}


def arrivals_left(pilot: Pilot) -> dict[int, dict[str, Draws]]:
    """What is left of a run: inputs that were not fed, and items that wait before a stage."""
    arrivals: dict[int, dict[str, Draws]] = {}
    for number, tasks in pilot.waiting.items():
        arrivals[number] = {task: np.array([float(count)]) for task, count in tasks.items()}
    first = arrivals.setdefault(0, {})
    first[ANY] = first.get(ANY, np.zeros(1)) + float(pilot.not_fed)
    return arrivals
