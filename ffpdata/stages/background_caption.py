"""Caption the same object in another place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row
from ffpdata.stages._vision import VisionStage


class BackgroundCaption(VisionStage):
    """Write `target_caption`, which says what a change of the background paints around the object."""

    name, version = "background_caption", 1
    reads = ("source_video", "caption", "object")
    uses = ("task",)
    writes = {"target_caption": str}
    prompts = ("background_caption",)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Changes of the background only."""
        return bool(row["task"] == "background")

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the caption of the edited clip."""
        fields = {"caption": row["caption"], "object": row["object"]}
        return {"target_caption": self.ask(row, fields, {"source": "source_video"})["caption"]}
