"""Stylize the whole clip after the reference (paper, section 3.2, stage 2: VACE with depth and reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.core.stage import Artifact, Row, Stage
from ffpdata.media.clip_cache import cached_video
from ffpdata.media.codec import read_gray, read_image, write_video
from ffpdata.media.encoders import check_encoder
from ffpdata.media.shrink import scaled
from ffpdata.stages._encoding import EncodingSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.protocols import Edit, Frames, Stylizer


class Stylize(Stage):
    """Write `target_video` in the style of `reference_image`."""

    name, version = "stylize", 1
    reads = ("source_video", "depth_video", "reference_image", "style_caption", "seed")
    uses = ("fps",)
    writes = {"target_video": Artifact("mp4"), "edit_facts": dict}
    facts_column = "edit_facts"
    models = ("stylizer",)
    Settings = EncodingSettings

    def setup(self) -> None:
        """Load the models, and try the encoder."""
        check_encoder(self.settings.encoder)
        super().setup()

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the stylized clip."""
        edit = stylized(
            self.model("stylizer"),
            row,
            cached_video(row.file("source_video")),
            read_gray(row.file("depth_video")),
        )
        target = row.new_file("target_video")
        write_video(target, edit.frames, row["fps"], encoder=self.settings.encoder)
        return {"target_video": target, "edit_facts": edit.facts}


def stylized(model: Stylizer, row: Row, frames: Frames, depth: NDArray[np.uint8], *, scale: float = 1.0) -> Edit:
    """Let a model stylize the clip of a row.

    Args:
        model: that does it.
        row: with the reference, the style in words and the seed.
        frames: uint8 (T, H, W, 3) RGB.
        depth: uint8 (T, H, W), near = 255.
        scale: size of the frames over that of the clip: the reference is brought to it.

    Raises:
        Reject: what the model itself turns away.
    """
    reference = scaled(read_image(row.file("reference_image")), scale)
    near = np.divide(depth, 255, dtype=np.float32)
    return model.stylize(frames, near, reference, prompt=row["style_caption"], seed=row["seed"])
