"""Think of the edit of a first frame: what the image editor is to do, and what the edited clip will then show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row, StageSettings
from ffpdata.stages._vision import VisionStage


class PlanFrameSettings(StageSettings):
    """What is asked of the editor where nothing has to be thought of."""

    style_instruction: str = (
        "Redraw the whole of picture 1 in the style of picture 2: {style}. Keep everything in picture 1 where it is."
    )
    """Of a stylization; `{style}` is the style in a few words."""


class PlanFrame(VisionStage):
    """Write `edit_instruction` for the image editor, `target_caption` for the propagator, and `object`.

    The object of an addition is what comes. A stylization is told by what `style_caption` wrote, and no model is asked.
    """

    name, version = "plan_frame", 1
    reads = ("source_video", "task", "caption", "object", "mask_video", "style", "style_caption")
    optional = ("object", "mask_video", "style", "style_caption")
    writes = {"edit_instruction": str, "target_caption": str, "object": str}
    prompts = ("plan_frame",)
    Settings = PlanFrameSettings

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the plan."""
        if row["task"] == "stylization":
            instruction = self.settings.style_instruction.replace("{style}", row["style"])
            return {"edit_instruction": instruction, "target_caption": row["style_caption"], "object": None}
        fields = {"task": row["task"], "caption": row["caption"], "object": row.get("object") or "scene"}
        media = {"source": "source_video"} | ({"mask": "mask_video"} if row.get("mask_video") else {})
        answer = self.ask(row, fields, media)
        return {
            "edit_instruction": answer["instruction"],
            # A model that only measures cannot say beforehand what the edit will look like.
            "target_caption": answer["caption"] if answer["caption"] != row["caption"] else None,
            "object": answer["object"] if row["task"] == "addition" else row.get("object"),
        }
