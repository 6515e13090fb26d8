"""Carry the edit of the first frame through the clip (paper, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Artifact, Row, Stage
from ffpdata.media.clip_cache import cached_video
from ffpdata.media.codec import read_image, write_video
from ffpdata.media.encoders import check_encoder
from ffpdata.stages._encoding import EncodingSettings


class Propagate(Stage):
    """Write `target_video`: the clip as its edited first frame begins it."""

    name, version = "propagate", 1
    reads = ("source_video", "edited_first_frame", "target_caption", "seed", "frame_facts")
    uses = ("fps",)
    optional = ("target_caption", "frame_facts")
    added = ("frame_facts",)
    writes = {"target_video": Artifact("mp4"), "edit_facts": dict}
    facts_column = "edit_facts"
    models = ("propagator",)
    Settings = EncodingSettings

    def setup(self) -> None:
        """Load the models, and try the encoder."""
        check_encoder(self.settings.encoder)
        super().setup()

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the edited clip, and what the editor of its first frame and the propagator measured."""
        edit = self.model("propagator").propagate(
            cached_video(row.file("source_video")),
            read_image(row.file("edited_first_frame")),
            prompt=row.get("target_caption") or "",
            seed=row["seed"],
        )
        target = row.new_file("target_video")
        write_video(target, edit.frames, row["fps"], encoder=self.settings.encoder)
        return {"target_video": target, "edit_facts": {**(row.get("frame_facts") or {}), **edit.facts}}
