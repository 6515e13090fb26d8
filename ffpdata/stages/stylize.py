"""Stylize the whole clip after the reference (paper, section 3.2, stage 2: VACE with depth and reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ffpdata.core.stage import Artifact, Row, Stage
from ffpdata.media.clip_cache import cached_video
from ffpdata.media.codec import read_gray, read_image, write_video
from ffpdata.media.encoders import check_encoder
from ffpdata.stages._encoding import EncodingSettings


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
        edit = self.model("stylizer").stylize(
            cached_video(row.file("source_video")),
            read_gray(row.file("depth_video")).astype(np.float32) / 255,
            read_image(row.file("reference_image")),
            prompt=row["style_caption"],
            seed=row["seed"],
        )
        target = row.new_file("target_video")
        write_video(target, edit.frames, row["fps"], encoder=self.settings.encoder)
        return {"target_video": target, "edit_facts": edit.facts}
