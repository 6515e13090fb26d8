"""Caption the scene without the object (paper, section 7.1.1, removal caption)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row
from ffpdata.stages._vision import VisionStage


class RemovalCaption(VisionStage):
    """Write `target_caption`, which guides a removal in place of the original caption."""

    name, version = "removal_caption", 1
    reads = ("source_video", "caption", "object")
    uses = ("task",)
    writes = {"target_caption": str}
    prompts = ("removal_caption",)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Removals only."""
        return bool(row["task"] == "removal")

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the rewritten caption."""
        fields = {"caption": row["caption"], "object": row["object"]}
        return {"target_caption": self.ask(row, fields, {"source": "source_video"})["caption"]}
