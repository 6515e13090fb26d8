"""Make the edit: regenerate the masked region (paper, section 3.1: VACE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ffpdata.core.stage import Artifact, Reject, Row, Stage
from ffpdata.media.clip_cache import cached_masks, cached_video
from ffpdata.media.codec import read_image, write_video
from ffpdata.media.conditioning import negative_prompt
from ffpdata.media.encoders import check_encoder
from ffpdata.media.shrink import scaled
from ffpdata.stages._encoding import EncodingSettings
from ffpdata.stages._tasks import TASKS, known

if TYPE_CHECKING:
    from ffpdata.models.protocols import Edit, Frames, Inpainter, Masks


class SynthesizeSettings(EncodingSettings):
    """Negative prompts, and the encoder."""

    negative: str = ""
    """Negative prompt of every edit."""
    negative_object: bool = True
    """Removal: put the object's name in front of the negative prompt, so that it is not painted back."""


class Synthesize(Stage):
    """Write `target_video` and the facts that the model measured."""

    name, version = "synthesize", 1
    reads = ("source_video", "condition_mask", "task", "caption", "target_caption", "object", "seed", "reference_image")
    uses = ("fps", "back_end")  # the model itself counts in the key, and not what it is called here
    optional = ("target_caption", "back_end", "reference_image")
    added = ("reference_image",)
    writes = {"target_video": Artifact("mp4"), "edit_facts": dict}
    facts_column = "edit_facts"
    models = several = ("remover", "swapper")
    Settings = SynthesizeSettings

    def roles(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Return only the role of the row's task, or the one back end of it that makes this row."""
        role, name = TASKS[row["task"]].role, row.get("back_end")
        return (f"{role}/{name}" if name else role,)

    def setup(self) -> None:
        """Load the models, and try the encoder."""
        check_encoder(self.settings.encoder)
        super().setup()

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the edited clip. A removal follows the caption without the object, where there is one."""
        [role] = self.roles(row)
        model = self.model(role)
        edit = edited(
            model,
            row,
            cached_video(row.file("source_video")),
            cached_masks(row.file("condition_mask")),
            self.settings,
        )
        target = row.new_file("target_video")
        write_video(target, edit.frames, row["fps"], encoder=self.settings.encoder)
        return {"target_video": target, "edit_facts": edit.facts}


def edited(
    model: Inpainter, row: Row, frames: Frames, masks: Masks, settings: SynthesizeSettings, *, scale: float = 1.0
) -> Edit:
    """Let a model make the edit of a row.

    Args:
        model: that makes it.
        row: says what to make.
        frames: uint8 (T, H, W, 3) RGB.
        masks: bool (T, H, W), what may be repainted.
        settings: the negative prompt.
        scale: size of the frames over that of the clip: a reference is brought to it.

    Raises:
        Reject: the model does not make such edits, a picture is missing, or what the model itself turns away.
    """
    task = row["task"]
    if task not in (can := getattr(model, "tasks", (task,))):
        raise Reject("needs_trained_model", f"{model.name} makes {' and '.join(can)}, and not {task}")
    question = edit_arguments(row, settings)
    if known(task).reference:
        if not row.get("reference_image"):
            raise Reject("no_reference_image", f"{task} puts a picture's object into a clip; there is no picture")
        question["reference"] = scaled(read_image(row.file("reference_image")), scale)
    return model.edit(frames, masks, **question)


def edit_arguments(row: Mapping[str, Any], settings: SynthesizeSettings) -> dict[str, Any]:
    """Return the arguments of `Inpainter.edit` beside frames and masks: `prompt`, `negative` and `seed`."""
    names = known(row["task"]).removes and settings.negative_object
    return {
        "prompt": row.get("target_caption") or row["caption"],
        "negative": negative_prompt(row["object"] if names else "", settings.negative),
        "seed": row["seed"],
    }
