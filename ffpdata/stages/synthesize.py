"""Make the edit: repaint the region (paper, section 3.1: VACE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Artifact, Row, Stage, StageSettings
from ffpdata.media.clip_cache import see_masks, see_video
from ffpdata.media.codec import write_video
from ffpdata.media.conditioning import negative_prompt

ROLES = {"removal": "remover", "swap": "swapper"}
"""Which model role makes which task: a removal model of its own redoes the removals and nothing else."""


class SynthesizeSettings(StageSettings):
    """How the model is asked."""

    negative: str = ""
    """Negative prompt of every edit."""
    negative_object: bool = True
    """Removal: put the object's name in front of the negative prompt, so that it is not painted back."""


class Synthesize(Stage):
    """Write `target_video` and what the model alone can know about its edit."""

    name, version = "synthesize", 1
    reads = ("source_video", "condition_mask", "task", "caption", "target_caption", "object", "seed")
    uses = ("fps",)
    optional = ("target_caption",)
    writes = {"target_video": Artifact("mp4"), "edit_facts": dict}
    facts_column = "edit_facts"
    models = ("remover", "swapper")
    Settings = SynthesizeSettings

    def roles(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The model of the row's task alone."""
        return (ROLES[row["task"]],)

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the edited clip. A removal follows the caption without the object, where there is one."""
        edit = self.model(ROLES[row["task"]]).edit(
            see_video(row.file("source_video")),
            see_masks(row.file("condition_mask")),
            **question(row, self.settings),
        )
        target = row.new_file("target_video")
        write_video(target, edit.frames, row["fps"])
        return {"target_video": target, "edit_facts": edit.facts}


def question(row: Mapping[str, Any], settings: SynthesizeSettings) -> dict[str, Any]:
    """What the model is told beside the pictures: `prompt`, `negative` and `seed`."""
    names = row["task"] == "removal" and settings.negative_object
    return {
        "prompt": row.get("target_caption") or row["caption"],
        "negative": negative_prompt(row["object"] if names else "", settings.negative),
        "seed": row["seed"],
    }
