"""Caption the static content of a clip (paper, section 7.1.1, original caption)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row
from ffpdata.stages._vision import VisionStage


class Caption(VisionStage):
    """Write `caption` and its author `caption_by`: `user`, `model` or `template`."""

    name, version = "caption", 1
    reads = ("source_video", "given_caption", "object")
    writes = {"caption": str, "caption_by": str}
    prompts = ("caption",)

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the user's caption, or the model's."""
        if row.get("given_caption"):
            return {"caption": row["given_caption"], "caption_by": "user"}
        answer = self.ask(row, {"object": row["object"]}, {"source": "source_video"})
        return {"caption": answer["caption"], "caption_by": self.answered_by()}
