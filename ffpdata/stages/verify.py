"""Check that the pair follows its instruction (paper, section 3.3, final verification)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Reject, Row, StageSettings
from ffpdata.stages._vision import VisionStage, numeric_facts
from ffpdata.stages.measure import METRICS


class VerifySettings(StageSettings):
    """Threshold of the score."""

    min_score: float = 5.0
    """Lowest score, 0 to 10."""


class Verify(VisionStage):
    """Write the verdict and `score` (0..1), by which curation chooses among variants."""

    name, version = "verify", 1
    reads = (
        "source_video",
        "target_video",
        "mask_video",
        "reference_image",
        "instruction",
        "task",
        "object",
        "style",
        "edit_facts",
        *METRICS,
    )
    optional = ("mask_video", "reference_image", "object", "style", "edit_facts", *METRICS)
    writes = {"verify_score": float, "verify_reason": str, "score": float}
    prompts = ("verify",)
    Settings = VerifySettings

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the verdict; a pair that does not follow its instruction is rejected, with the verdict in its row."""
        fields = {name: row.get(name) for name in ("instruction", "task", "object", "style")}
        answer = self.ask(row, {**numeric_facts(row), **fields})
        score = float(answer["score"])
        columns = {"verify_score": score, "verify_reason": answer["reason"], "score": round(score / 10, 4)}
        if not answer["follows"] or score < self.settings.min_score:
            detail = f"score {score:.1f}, at least {self.settings.min_score:g}: {answer['reason']}"
            raise Reject("not_verified", detail, columns)
        return columns
