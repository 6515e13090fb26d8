"""Write the instruction of a local edit, as a user would word it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row
from ffpdata.stages._vision import VisionStage, numeric_facts
from ffpdata.stages.measure import METRICS


class Instruct(VisionStage):
    """Write `instruction` for a local edit."""

    name, version = "instruct", 1
    reads = ("source_video", "target_video", "mask_video", "object", "task", "edit_facts", *METRICS, "reference_image")
    optional = ("reference_image", "mask_video", "edit_facts", *METRICS)
    added = ("reference_image",)
    writes = {"instruction": str}
    prompts = ("instruct",)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Every task but stylization, which `instruct_style` words."""
        return bool(row["task"] != "stylization")

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return one imperative sentence."""
        return {
            "instruction": self.ask(row, {**numeric_facts(row), "task": row["task"], "object": row["object"]})[
                "instruction"
            ]
        }
