"""Name the objects that a person would want to edit, best first (paper, section 7.1.1, object identification)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row
from ffpdata.stages._vision import VisionStage


class Identify(VisionStage):
    """Write up to three category words, or the user's own object."""

    name, version = "identify", 1
    reads = ("source_video", "given_object")
    writes = {"objects": list[str], "object": str}
    prompts = ("identify",)

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the candidates and the first of them."""
        user_object = row.get("given_object")
        objects = [user_object] if user_object else self.ask(row, {}, {"source": "source_video"})["objects"]
        return {"objects": objects, "object": objects[0]}
