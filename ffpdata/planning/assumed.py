"""The model of a pipeline before anything was measured: from its settings, its profile and a plan's assumptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from ffpdata.core.held import SERVED, served_gpus
from ffpdata.core.pipeline import Pipeline
from ffpdata.core.stage import Artifact, ModelSpec, Stage, of_role
from ffpdata.media.geometry import Geometry
from ffpdata.planning.denoising import FULL, pixels, relative_cost
from ffpdata.planning.draws import Sampler
from ffpdata.planning.flow_model import ANY, Draws, Rates, StageModel, TrackModel, constant
from ffpdata.planning.settings import Assumption, PlanSettings
from ffpdata.stages._drafts import DraftSize, drafted_by
from ffpdata.stages._tasks import known

STYLIZATION = "stylization"
CHECK = "draft_check"
PAIR_FILES = ("source_video", "target_video", "mask_video")


class AssumedModel:
    """Makes the model of one pipeline.

    Args:
        pipeline: as it is to run.
        base: the same pipeline and profile without overrides: the settings that the profile's seconds are of.
        settings: the assumptions.
        sampler: draws them.
    """

    def __init__(self, pipeline: Pipeline, base: Pipeline, settings: PlanSettings, sampler: Sampler) -> None:
        self.pipeline, self.settings, self.sampler = pipeline, settings, sampler
        self.stages = [stage for stage in pipeline.build() if not stage.idle]
        self.base = {stage.name: stage for stage in base.build()}
        self.clip = Geometry(**pipeline.clip)
        self.unknown: list[str] = []
        """Stages whose seconds nobody names."""
        self.used: set[str] = set()
        """Paths of the assumptions that this model rests on."""

    def build(self) -> TrackModel:
        """Return the model."""
        tasks = [ANY]
        models = []
        siblings, own = 1.0, frozenset[str]()
        for stage in self.stages:
            made = StageModel(stage.name, stage.resources, served_gpus(stage.specs))
            fan = self.children(stage)
            own |= set(stage.writes) if own & set(stage.reads) else set()
            for task in tasks:
                made.rates[task] = self.rates(stage, task)
                made.rates[task].children = {} if not fan else {k or task: v for k, v in fan.items()}
                if not own & set(stage.reads):
                    made.rates[task].computed = constant(1 / siblings)
            made.rates.setdefault(ANY, made.rates[tasks[0]])
            if fan and ANY not in fan:
                # From here on items of one clip differ in what this stage wrote; a stage that reads nothing of it has
                # one answer for all of them.
                tasks, siblings, own = (
                    list(fan),
                    sum(float(count[0]) for count in fan.values()),
                    frozenset(stage.writes),
                )
            models.append(made)
        track = TrackModel(self.pipeline.track, models, pair_bytes=self.pair_bytes())
        self.check_drafts(track, tasks)
        for task in tasks:
            track.kept[task] = self.kept(track, task)
        return track

    # --- of a stage ---

    def rates(self, stage: Stage, task: str) -> Rates:
        """What a stage does to the items of a task."""
        seconds = self.seconds(stage, task)
        served = asks(stage)
        need, each = stage.resources, self.settings.tokens
        cpu = seconds * need.cpus / need.concurrency
        if need.gpus:
            cpu = self.number("files_seconds", self.settings.files_seconds) * pixels(self.clip)
        rates = Rates(
            applies=self.applies(stage, task),
            passes=self.passes(stage.name, task),
            seconds=seconds,
            seconds_lost=seconds,
            cpu_seconds=cpu,
            written=self.written(stage),
        )
        if served:
            asked = "image" if stage.name in each.image_stages else "clip"
            rates.requests = constant(1.0)
            rates.prompt_tokens = self.number(f"tokens.{asked}", getattr(each, asked))
            rates.completion_tokens = self.number("tokens.answer", each.answer)
        return rates

    def seconds(self, stage: Stage, task: str) -> Draws:
        """Seconds of an item: what the profile names, scaled to the settings, else what is assumed of the stage."""
        named = stage.resources.seconds
        if named is not None:
            before = self.base.get(stage.name, stage)
            share = self.number("profile_seconds", self.settings.profile_seconds)
            if asks(stage) or named != before.resources.seconds:
                return named * share
            made, was = clip_of(stage, self.clip), clip_of(before, FULL)
            return named * share * relative_cost(spec_of(stage, task), spec_of(before, task), made, was)
        if stage.name not in self.settings.seconds:
            self.unknown.append(stage.name)
            return self.number("other_seconds", self.settings.other_seconds)
        clip = clip_of(stage, self.clip)
        return self.number(f"seconds.{stage.name}", self.settings.seconds[stage.name]) * pixels(clip)

    def applies(self, stage: Stage, task: str) -> Draws:
        """Share of the items that a stage is for, by its own rule."""
        given = {"task": task} if task else {}
        still = _applies(stage, {**given, "content_image": "still"})
        moving = _applies(stage, given)
        if still == moving:
            return constant(float(still))
        stills = self.number("stills", self.settings.stills)
        return stills * still + (1 - stills) * moving

    def passes(self, name: str, task: str) -> Draws:
        """Share of the items that a stage lets through."""
        shares = self.settings.passes.get(name, {})
        which = task if task in shares else "any"
        return self.number(f"passes.{name}.{which}", shares[which]) if which in shares else constant(1.0)

    def children(self, stage: Stage) -> dict[str, Draws]:
        """Task to the children of an item; empty where there is no fan-out."""
        if not stage.fan_out:
            return {}
        if edits := getattr(stage.settings, "edits", None):
            makers: Mapping[str, list[str]] = getattr(stage.settings, "back_ends", {})
            counts = Counter(edit.task for edit in edits for _ in makers.get(known(edit.task).role, [""]))
            styles = stage.settings.most or self.pipeline.input.styles_per_source if STYLIZATION in counts else 1
            return {n: constant(float(count * (styles if n == STYLIZATION else 1))) for n, count in counts.items()}
        if "reference_image" in stage.writes:
            return {STYLIZATION: constant(float(self.pipeline.input.styles_per_source))}
        return {ANY: constant(float(getattr(stage.settings, "clips_per_source", 1)))}

    def written(self, stage: Stage) -> Draws:
        """Bytes that an item leaves in the run folder: its files, and its row."""
        files = [name for name, kind in stage.writes.items() if isinstance(kind, Artifact)]
        row = 1e3 * self.number("kilobytes_per_row", self.settings.kilobytes_per_row)
        clip = clip_of(stage, self.clip)
        return row + sum((self.file_bytes(name, clip) for name in files), constant(0.0))

    def file_bytes(self, column: str, clip: Geometry | None = None) -> Draws:
        """Bytes of a file at the size of the clip, or of another one."""
        name = column if column in self.settings.megabytes else "other"
        return 1e6 * pixels(clip or self.clip) * self.number(f"megabytes.{name}", self.settings.megabytes[name])

    def pair_bytes(self) -> Draws:
        """Bytes of a pair in an export."""
        written = {name for stage in self.stages for name in stage.writes}
        columns = [name for name in PAIR_FILES if name in written]
        columns += ["edited_first_frame", *self.pipeline.export.members.values()]
        return sum((self.file_bytes(name) for name in columns), constant(0.0))

    # --- of the whole ---

    def check_drafts(self, track: TrackModel, tasks: Iterable[str]) -> None:
        """Let drafts decide which edits are made in full, where the pipeline makes drafts."""
        number = next((n for n, stage in enumerate(self.stages) if stage.name == CHECK), None)
        if number is None:
            return
        caught, lost = (
            self.number(f"drafts.{part}", getattr(self.settings.drafts, part)) for part in ("caught", "lost")
        )
        audit = constant(float(self.stages[number].settings.audit))
        for task in tasks:
            check = track.stages[number].of(task)
            if check.applies[0]:
                after = [stage.of(task) for stage in track.stages[number + 1 :]]
                put_draft(check, after, caught=caught, lost=lost, audit=audit)

    def kept(self, track: TrackModel, task: str) -> Draws:
        """Share of the finished pairs that curation keeps: no look-alikes, and one of an item's variants."""
        kept = 1 - self.number("duplicates", self.settings.duplicates)
        if self.pipeline.curate.variants != "best":
            return kept
        number = next(
            (n for n, stage in enumerate(self.stages) if stage.fan_out and task in self.children(stage)), None
        )
        # Styles of a source are no variants of one edit.
        if number is None or not hasattr(self.stages[number].settings, "edits"):
            return kept
        variants = float(self.children(self.stages[number])[task][0])
        after = [stage.of(task) for stage in track.stages[number + 1 :]]
        share = overall(rates for rates in after if rates.computed[0] == 1)  # a shared mask fails them all, or none
        return kept * (1 - (1 - share) ** variants) / np.maximum(variants * share, 1e-9)

    def number(self, path: str, number: Assumption) -> Draws:
        """Draw an assumption, and note that the plan rests on it."""
        self.used.add(path)
        return self.sampler.draw(path, number)


def overall(rates: Iterable[Rates]) -> Draws:
    """Share of items that pass all of some stages; those that a stage is not for pass it."""
    share = constant(1.0)
    for each in rates:
        share = share * (1 - each.applies * (1 - each.passes))
    return share


def put_draft(check: Rates, after: list[Rates], *, caught: Draws, lost: Draws, audit: Draws) -> None:
    """Set what a check of drafts lets through, and raise the shares of the stages after it to what remains.

    Args:
        check: rates of the check; its `passes` is set.
        after: rates of the stages after it, as they are without drafts; their `passes` are raised.
        caught: share of the edits that `after` would turn away whose draft is turned away.
        lost: share of the good ones whose draft is turned away.
        audit: share of those turned away that go on all the same.
    """
    good = overall(after)
    turned = good * lost + (1 - good) * caught
    made = np.maximum(1 - turned * (1 - audit), 1e-9)
    left = good * (1 - lost * (1 - audit)) / made
    certain = good >= 1
    power = np.where(certain, 1.0, np.log(np.clip(left, 1e-9, 1)) / np.log(np.clip(good, 1e-9, 1 - 1e-9)))
    for each in after:
        through = (1 - each.applies * (1 - each.passes)) ** power
        each.passes = np.clip(1 - (1 - through) / np.maximum(each.applies, 1e-9), 0, 1)
    check.passes = made


def clip_of(stage: Stage, clip: Geometry) -> Geometry:
    """The size of what a stage makes of a clip: that of the clip, or of a draft."""
    if not isinstance(stage.settings, DraftSize):
        return clip
    width, height = stage.settings.size_for(clip.width, clip.height)
    return clip.model_copy(update={"width": width, "height": height})


def _applies(stage: Stage, row: Mapping[str, object]) -> bool:
    try:
        return bool(stage.applies(row))
    except (KeyError, TypeError, ValueError):  # it looks at columns that only a real row has
        return True


def asks(stage: Stage) -> bool:
    """Whether a stage asks a served model."""
    return any(spec.runtime.get("endpoint") for spec in of_role(stage.specs, SERVED).values())


def spec_of(stage: Stage, task: str) -> ModelSpec | None:
    """The model of a stage that makes the edits of a task; of several back ends the first."""
    role = known(task).role
    found = of_role(stage.specs, role) if role else {}
    found = found or {name: stage.specs[name] for name in drafted_by(stage.specs, {"task": task})}
    return next(iter((found or stage.specs).values()), None)
