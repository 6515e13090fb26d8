"""Screen removals with a graded score (paper, section 3.3, iterative refinement)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Reject, Row, StageSettings
from ffpdata.stages._tasks import known
from ffpdata.stages._vision import VisionStage, numeric_facts
from ffpdata.stages.measure import METRICS


class ScreenSettings(StageSettings):
    """Threshold of the score."""

    min_score: float = 5.0
    """Lowest score, 0 to 10."""


class Screen(VisionStage):
    """Write the score and the findings; an edit below the threshold is rejected, with both in its row."""

    name, version = "screen", 1
    reads = ("source_video", "target_video", "mask_video", "object", "task", "edit_facts", *METRICS, "reference_image")
    optional = ("reference_image", "mask_video", "edit_facts", *METRICS)
    added = ("reference_image",)
    writes = {"screen_score": float, "screen_reason": str, "screen": dict}
    prompts = ("screen",)
    Settings = ScreenSettings

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Removals, and other tasks that are screened."""
        return known(row["task"]).screened

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the graded answer."""
        answer = self.ask(row, {**numeric_facts(row), "object": row["object"], "task": row["task"]})
        findings = {k: v for k, v in answer.items() if k not in ("score", "reason")}
        columns = {"screen_score": float(answer["score"]), "screen_reason": answer["reason"], "screen": findings}
        if columns["screen_score"] < self.settings.min_score:
            detail = f"score {columns['screen_score']:.1f}, at least {self.settings.min_score:g}: {answer['reason']}"
            raise Reject("screened_out", detail, columns)
        return columns
