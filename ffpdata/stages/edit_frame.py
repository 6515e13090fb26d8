"""Let an image editor change the first frame of a clip; `propagate` carries the change on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ffpdata.core.keys import source_id
from ffpdata.core.stage import Artifact, Reject, Row, Stage, StageSettings
from ffpdata.media.clip_cache import cached_masks
from ffpdata.media.codec import read_first_frame, read_image, write_image
from ffpdata.stages._tasks import outlined

if TYPE_CHECKING:
    from ffpdata.models.protocols import ImageEditor, Mask


class EditFrameSettings(StageSettings):
    """What a first frame must show."""

    min_area: float = Field(0.002, ge=0, le=1)
    """Smallest share of the first frame that the object must cover, where there is one."""


class EditFrame(Stage):
    """Write `edited_first_frame`, its hash, and what the editor measured."""

    name, version = "edit_frame", 1
    reads = ("source_video", "task", "edit_instruction", "seed", "mask_video", "reference_image")
    optional = ("mask_video", "reference_image")
    writes = {"edited_first_frame": Artifact("png"), "edited_first_frame_id": str, "frame_facts": dict}
    facts_column = "frame_facts"
    models = ("image_editor",)
    Settings = EditFrameSettings

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the edited frame.

        Raises:
            Reject: `needs_trained_model`, `object_not_in_first_frame`, or what the editor turns away.
        """
        model: ImageEditor = self.model("image_editor")
        task = row["task"]
        if task not in (can := getattr(model, "tasks", (task,))):
            raise Reject("needs_trained_model", f"{model.name} makes {' and '.join(can)}, and not {task}")
        edit = model.edit_image(
            read_first_frame(row.file("source_video")),
            task=task,
            prompt=row["edit_instruction"],
            mask=self._mask(row),
            reference=read_image(row.file("reference_image")) if row.get("reference_image") else None,
            seed=row["seed"],
        )
        target = row.new_file("edited_first_frame")
        write_image(target, edit.image)
        with target.open("rb") as stream:
            found = source_id(stream)
        return {"edited_first_frame": target, "edited_first_frame_id": found, "frame_facts": edit.facts}

    def _mask(self, row: Row) -> Mask | None:
        """Return the object's outline in the first frame; None where the edit is of no object."""
        if not outlined(row["task"]) or not row.get("mask_video"):
            return None
        mask: Mask = cached_masks(row.file("mask_video"))[0]
        share, least = float(mask.mean()), self.settings.min_area
        if share < least:
            raise Reject(
                "object_not_in_first_frame",
                f"the object covers {share:.2%} of the first frame, at least {least:.2%}: what is not seen there "
                "cannot be edited there",
            )
        return mask
