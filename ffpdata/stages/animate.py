"""Animate a still image into the source video (paper, section 3.2, stage 1: Wan2.1-14B-I2V)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.keys import digest
from ffpdata.core.stage import Artifact, Row, Stage
from ffpdata.media.codec import read_image, write_video
from ffpdata.media.encoders import check_encoder
from ffpdata.stages._encoding import EncodingSettings


class Animate(Stage):
    """Write `source_video` for a still image."""

    name, version = "animate", 1
    reads = ("content_image", "cinematic_caption", "frames", "fps")
    writes = {"source_video": Artifact("mp4"), "animate_facts": dict}
    facts_column = "animate_facts"
    models = ("image_to_video",)
    Settings = EncodingSettings

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Stills only."""
        return bool(row.get("content_image"))

    def setup(self) -> None:
        """Load the models, and try the encoder."""
        check_encoder(self.settings.encoder)
        super().setup()

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the clip; its first frame is the image."""
        seed = int(digest(row["content_image"])[:7], 16)
        image = read_image(row.file("content_image"))
        animation = self.model("image_to_video").animate(
            image, prompt=row["cinematic_caption"], frames=row["frames"], seed=seed
        )
        target = row.new_file("source_video")
        write_video(target, animation.frames, row["fps"], encoder=self.settings.encoder)
        return {"source_video": target, "animate_facts": animation.facts}
