"""Give a finished pair its score: the calibrated probability that a person would accept it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ffpdata.core.keys import digest
from ffpdata.core.stage import Reject, Row, Stage, StageSettings
from ffpdata.media.clip_cache import cached_masks, cached_video
from ffpdata.media.codec import read_image
from ffpdata.metrics.learned import LEARNED
from ffpdata.metrics.limits import Limits, beyond
from ffpdata.metrics.score import DEFAULT, ScoreModel, default_score
from ffpdata.metrics.style import STYLE, style_agreement
from ffpdata.metrics.vector import VECTOR
from ffpdata.metrics.words import WORDS, agreement, seen_colours
from ffpdata.stages._vision import numeric_facts
from ffpdata.stages.measure import METRICS

ASSESSED = tuple(score.name for score in LEARNED)
JUDGED = ("verify_score", "screen_score")
"""Scores of the vision-language model that may count."""
FAULTS = 3
"""Most faults that are named."""


class GradeSettings(StageSettings):
    """The model of the score, and what is rejected by it."""

    score: ScoreModel | Literal["default"] = DEFAULT
    """Models of the score, as `ffpdata calibrate RUN --out` writes them into a profile; or those that come with
    ffpdata, fitted on injected defects and not on people's verdicts."""
    min_score: float = 0.0
    """Lowest score, 0 to 1."""
    limits: dict[str, Limits] = {}
    """Task to number to bounds, as in `measure`; of the agreement of instruction and pair."""


class Grade(Stage):
    """Write how instruction and style image agree with the pair, and the `score`, 0..1, by which curation ranks pairs.

    A task that the model does not know is scored by `verify_score` over ten. No model is asked, so that another
    calibration costs next to nothing.
    """

    name, version = "grade", 3
    optional = (
        *("mask_video", "reference_image", "object", "edit_facts"),
        *(*JUDGED, *METRICS, *(metric.name for metric in VECTOR)),
        *ASSESSED,
    )
    added = ASSESSED
    reads = ("source_video", "target_video", "instruction", "task", *optional)
    writes = {**dict.fromkeys((*WORDS, *STYLE), float), "score": float, "score_faults": list[str]}
    Settings = GradeSettings

    def fixed_key(self, roles: tuple[str, ...]) -> str:
        """As of every stage; the model that comes with ffpdata counts by its content."""
        key = super().fixed_key(roles)
        return digest(key, self.model_of_score().model_dump(mode="json")) if self.settings.score == DEFAULT else key

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the score; a pair whose words do not fit, or whose score is too low, is rejected with its numbers."""
        task = str(row["task"])
        masks = cached_masks(row.file("mask_video")) if row.get("mask_video") else None
        reference = read_image(row.file("reference_image")) if row.get("reference_image") else None
        source, target = (cached_video(row.file(name)) for name in ("source_video", "target_video"))
        columns: dict[str, Any] = agreement(row, seen_colours(source, target, masks, reference))
        if reference is not None and task == "stylization":
            columns["style_agreement"] = style_agreement(source, target, reference)
        numbers = numeric_facts(row) | {name: value for name, value in columns.items() if value is not None}
        model = self.model_of_score().of(task)
        if model is None:
            columns |= {"score": round(float(row.get("verify_score") or 0.0) / 10, 4), "score_faults": []}
        else:
            columns |= {
                "score": round(model.probability(numbers), 4),
                "score_faults": [name for name, _ in model.faults(numbers)[:FAULTS]],
            }
        if found := beyond(self.settings.limits.get(task, {}), numbers):
            raise Reject(*found, columns)
        if columns["score"] < self.settings.min_score:
            worst = ", ".join(columns["score_faults"])
            detail = f"score {columns['score']:.3f}, at least {self.settings.min_score:g}" + (worst and f": {worst}")
            raise Reject("score_too_low", detail, columns)
        return columns

    def model_of_score(self) -> ScoreModel:
        """Return the models of the score that its settings name."""
        found = self.settings.score
        return default_score() if isinstance(found, str) else found
