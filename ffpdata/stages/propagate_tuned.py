"""Tune a model to the clip and carry the edit of its first frame through it (LoRA-Edit)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffpdata.core.stage import Artifact, Reject, Row, Stage
from ffpdata.media.clip_cache import cached_video
from ffpdata.media.codec import read_image, read_masks, write_video
from ffpdata.media.encoders import check_encoder
from ffpdata.media.geometry import Geometry
from ffpdata.media.images import conform_image
from ffpdata.stages._encoding import EncodingSettings

if TYPE_CHECKING:
    from ffpdata.models.protocols import Image


class PropagateTunedSettings(EncodingSettings):
    """How the clip is written, and what a further edited frame must be."""

    clip: Geometry = Geometry()
    min_side: int = 240
    """Shortest side of an edited frame in pixels, as `ingest` asks of the source."""


class PropagateTuned(Stage):
    """Write `target_video`: the clip as its edited first frame begins it, by a model that was tuned to the clip."""

    name, version = "propagate_tuned", 1
    reads = (
        *("source_video", "edited_first_frame", "condition_mask", "target_caption", "given_source_caption", "seed"),
        *("edited_frame_ids", "edited_frame_indices"),
    )
    uses = ("root", "fps", "frames", "edited_frame_paths")
    optional = ("given_source_caption", "edited_frame_ids", "edited_frame_indices", "edited_frame_paths")
    writes = {"target_video": Artifact("mp4"), "edit_facts": dict, "tuning": dict}
    facts_column = "edit_facts"
    models = ("tuned_propagator",)
    Settings = PropagateTunedSettings

    def setup(self) -> None:
        """Load the models, and try the encoder."""
        check_encoder(self.settings.encoder)
        super().setup()

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the edited clip.

        Raises:
            Reject: `bad_edited_frame`, or of the image of one.
        """
        edit = self.model("tuned_propagator").propagate(
            cached_video(row.file("source_video")),
            read_image(row.file("edited_first_frame")),
            read_masks(row.file("condition_mask")),
            edited_frames=self._further(row),
            prompt=row["target_caption"],
            source_prompt=row.get("given_source_caption") or "",
            seed=row["seed"],
        )
        target = row.new_file("target_video")
        write_video(target, edit.frames, row["fps"], encoder=self.settings.encoder)
        return {"target_video": target, "edit_facts": edit.facts, "tuning": edit.tuning}

    def _further(self, row: Row) -> dict[int, Image]:
        """Return the further edited frames that the row names, by index, at the clip's size."""
        found: dict[int, Image] = {}
        indices = [int(index) for index in row.get("edited_frame_indices") or []]
        for index, path in zip(indices, row.get("edited_frame_paths") or [], strict=True):
            if not 0 < index < row["frames"] or index in found:
                what = "is named twice" if index in found else f"is none of 1 to {row['frames'] - 1}"
                raise Reject("bad_edited_frame", f"edited frame {index} {what}: count from 0 at {row['fps']:g} fps")
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder, "edited.png")
                settings = self.settings
                conform_image(row.input(path), target, settings.clip, min_side=settings.min_side)
                found[index] = read_image(target)
        return found
