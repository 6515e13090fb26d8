"""Why a run has no pair, and what to change: the reason that turned most items away, with the settings behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ffpdata.core.pipeline import Pipeline
from ffpdata.core.stage import Stage
from ffpdata.core.wording import counted
from ffpdata.manifests.sql_text import quote
from ffpdata.manifests.views import CURATE, PAIR

if TYPE_CHECKING:
    from ffpdata.manifests.run_folder import RunFolder
    from ffpdata.runners.session import Status

LIMIT = re.compile(r"(?:at least|at most|must have|limit is|above|below)\s+(-?\d+(?:\.\d+)?(?:e-?\d+)?)")
"""How a rejection names the limit that an item broke."""

SHOWN = 6
"""Most settings that are listed."""

SHOW_IT = "Say in a table what to edit and where: the columns `object` and `box`, see manifests/README.md."
MOTION_ALONE = (
    "The models of profile cpu find only what moves against the camera, or what a box shows them; those of --profile "
    "cpu,pretrained, which `ffpdata models install` fetches, also what stands still."
)
UNSURE = f"The outline could not be trusted. {SHOW_IT} Clips in which the object is larger and sharper help, too."
PAINT_ALONE = (
    "The embedded swapper changes the paint of one object, and needs it on a large enough part of it, in every frame: "
    "take other clips, or another object, or profile gpu."
)

ADVICE = {
    "no_target": f"{SHOW_IT} {MOTION_ALONE}",
    **dict.fromkeys(("stays_in_place", "motion_coherence", "not_isolated", "not_distinct"), MOTION_ALONE),
    **dict.fromkeys(("outline_disagrees", "outline_flickers", "outline_unsure", "outline_has_holes"), UNSURE),
    **dict.fromkeys(("object_half_lost", "takes_ground", "not_redetected", "name_unsure", "temporal_iou"), UNSURE),
    **dict.fromkeys(("no_dominant_colour", "colour_unchanged", "change_fades"), PAINT_ALONE),
    "not_legible": "Give other style images: light ones with large forms are read more often than dark or fine ones.",
    "needs_trained_model": "No model of this profile can do that: take --profile gpu.",
    "unrevealed": "The embedded remover fills in only what other frames show: take clips in which the object moves "
    "away from where it was, or the camera around it, or profile gpu.",
    "camera_unstable": "The models of profile cpu can follow calm cameras alone: take other clips, or profile gpu.",
    "near_duplicate": "Pairs whose pictures are alike are kept once: --set curate.duplicate_bits=0 keeps more of them.",
    "not_reviewed": "Review the pairs, or keep them unreviewed: --set curate.verdicts=use",
    "rejected_by_reviewer": "Reviewers decided so; --set curate.verdicts=ignore leaves their verdicts out.",
}
"""What helps where no limit of a setting is behind a reason."""


def why_none(run: RunFolder, found: Status) -> list[str]:
    """Return lines for a person; none where the run has pairs.

    Args:
        run: with at least one start.
        found: where it stands.
    """
    return [] if found.pairs else list(_lines(run, found))


def _lines(run: RunFolder, found: Status) -> Iterator[str]:
    for track, makers in run.pair_makers().items():
        for column, stages in zip(PAIR, makers, strict=True):
            if not stages:
                yield f"No pair: no stage of {track} writes `{column}`, and a pair is what has {' and '.join(PAIR)}."
                return
    counted_reasons = [
        (count, stage, reason) for stage, counts in found.stages.items() for reason, count in counts["reasons"].items()
    ]
    if not counted_reasons:
        if only := next((start["stages"] for start in run.latest().values() if start.get("stages")), ""):
            yield f"No pair: this start computed the stages {only} alone. Without --stages the others follow."
        return
    count, stage, reason = max(counted_reasons, key=lambda one: one[0])
    counts = found.stages[stage]
    came = counts["ok"] + counts["rejected"] + counts["failed"]
    status, error = _example(run, stage, reason)
    how = "failed" if status == "failed" else "were turned away"
    yield f"No pair. Most items {how} at {stage}: {reason}, {count} of {counted(came, 'item')} that came there."
    if error:
        yield f"  For example: {error.strip().splitlines()[-1]}"
    if status == "failed":
        yield f"  Every traceback is in the column `error` of {stage}; `ffpdata retry` tries failed items again."
        return
    yield from (f"  {line}" for line in _remedies(run, stage, reason, error))


def _example(run: RunFolder, stage: str, reason: str) -> tuple[str, str]:
    """Status and error of one item that ended so."""
    with run.reading() as connection:
        query = f"select status, error from {quote(stage)} where reason = ? order by item_id limit 1"  # noqa: S608
        row = connection.execute(query, [reason]).fetchone()
    return (row[0], row[1] or "") if row else ("rejected", "")


def _remedies(run: RunFolder, stage: str, reason: str, error: str) -> Iterator[str]:
    limits = {float(text) for text in LIMIT.findall(error)}
    settings = {} if stage == CURATE else dict(_settings(run.pipelines(), stage))
    behind = {name: value for name, value in settings.items() if float(f"{value:g}") in limits}
    for name, value in behind.items():
        yield f"What decides it: --set {name}=..., now {value:g}"
    if advice := ADVICE.get(reason) or ADVICE.get(re.sub("(_peak)?_too_(high|low)$", "", reason)):
        yield advice
    elif not behind and settings:
        names = list(settings)
        more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
        yield f"Settings of {stage}, for --set: {', '.join(names[:SHOWN])}{more}"


def _settings(pipelines: Mapping[str, Pipeline], stage: str) -> Iterator[tuple[str, float]]:
    """Numbers among the settings of a stage and of its models, by the names that `--set` takes."""
    built: list[Stage] = [one for pipeline in pipelines.values() for one in pipeline.build() if one.name == stage]
    for one in built[:1]:
        for path, value in _numbers(one.settings.model_dump(mode="json")):
            yield (path if path.startswith("clip.") else f"{stage}.{path}"), value
        for role, spec in one.specs.items():
            if model := getattr(spec.load_class(), "Settings", None):
                for path, value in _numbers(model.model_validate(spec.settings).model_dump(mode="json")):
                    yield f"models.{role}.settings.{path}", value


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", number) for inner, number in _numbers(value))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, float(value)
