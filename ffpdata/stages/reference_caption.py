"""Caption the clip with what a picture shows in the place of the object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row
from ffpdata.stages._tasks import known
from ffpdata.stages._vision import VisionStage


class ReferenceCaption(VisionStage):
    """Write `target_caption`, which guides the swap, and what the picture shows in a few words."""

    name, version = "reference_caption", 1
    reads = ("source_video", "caption", "object", "reference_image")
    uses = ("task",)
    writes = {"target_caption": str, "reference_object": str}
    prompts = ("reference_caption",)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Only tasks with a picture of what comes."""
        return known(row["task"]).reference

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the caption of the edited clip, and the name of the new object."""
        fields = {"caption": row["caption"], "object": row["object"]}
        answer = self.ask(row, fields, {"reference": "reference_image", "source": "source_video"})
        return {"target_caption": answer["caption"], "reference_object": answer["new_object"]}
