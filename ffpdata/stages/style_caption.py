"""Describe the clip in the style of its reference (paper, section 3.2, stage 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row
from ffpdata.stages._vision import VisionStage


class StyleCaption(VisionStage):
    """Write a short name for the style and the caption that guides the stylization."""

    name, version = "style_caption", 1
    reads = ("source_video", "reference_image")
    writes = {"style": str, "style_caption": str}
    uses = optional = ("task",)
    prompts = ("style_caption",)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Stylizations."""
        return bool(row.get("task", "stylization") == "stylization")

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return name and caption."""
        answer = self.ask(row, {}, {"reference": "reference_image", "source": "source_video"})
        return {"style": answer["style"], "style_caption": answer["caption"]}
