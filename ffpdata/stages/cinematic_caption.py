"""Caption a still image as the first frame of a moving clip (paper, section 3.2, stage 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row
from ffpdata.stages._vision import VisionStage


class CinematicCaption(VisionStage):
    """Write `cinematic_caption`, which guides the animation of a still image."""

    name, version = "cinematic_caption", 1
    reads = ("content_image", "given_caption")
    writes = {"cinematic_caption": str}
    prompts = ("cinematic_caption",)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Stills only."""
        return bool(row.get("content_image"))

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the user's caption, or the model's."""
        user_caption = row.get("given_caption")
        return {"cinematic_caption": user_caption or self.ask(row, {}, {"source": "content_image"})["caption"]}
