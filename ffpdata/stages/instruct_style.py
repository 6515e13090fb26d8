"""Write the instruction of a stylization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row
from ffpdata.stages._vision import VisionStage


class InstructStyle(VisionStage):
    """Write `instruction` for a stylized clip."""

    name, version = "instruct_style", 1
    reads = ("source_video", "target_video", "reference_image", "style", "task")
    writes = {"instruction": str}
    prompts = ("instruct_style",)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Stylizations: in a pipeline of several tasks, `instruct` words the others."""
        return bool(row["task"] == "stylization")

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return one imperative sentence that names the style."""
        return {"instruction": self.ask(row, {"style": row["style"], "task": row["task"]})["instruction"]}
