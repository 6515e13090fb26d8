"""Say whether an edit became a swap or a modification (paper, section 7.1.1, task discrimination)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row
from ffpdata.stages._vision import VisionStage, numeric_facts
from ffpdata.stages.measure import METRICS


class Discriminate(VisionStage):
    """Correct the task `swap` to `modification` where the object only changed its look."""

    name, version = "discriminate", 1
    reads = ("source_video", "target_video", "mask_video", "object", "task", "edit_facts", *METRICS, "reference_image")
    optional = ("reference_image", "mask_video", "edit_facts", *METRICS)
    added = ("reference_image",)
    writes = {"task": str, "discriminate_reason": str}
    prompts = ("discriminate",)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Swaps only."""
        return bool(row["task"] == "swap")

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return `swap` or `modification`, with the model's reason."""
        answer = self.ask(row, {**numeric_facts(row), "object": row["object"]})
        return {"task": answer["task"], "discriminate_reason": answer["reason"]}
