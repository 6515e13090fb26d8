"""Estimate depth, which a stylization must preserve (paper, section 3.2: Video Depth Anything)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Artifact, Row, Stage
from ffpdata.media.clip_cache import cached_video
from ffpdata.media.codec import write_gray
from ffpdata.media.conditioning import depth_levels


class Depth(Stage):
    """Write `depth_video` (8-bit grey, near = white) and `depth_kind`, `pseudo` or `relative`."""

    name, version = "depth", 1
    reads = ("source_video",)
    uses = ("fps",)
    writes = {"depth_video": Artifact("mp4"), "depth_kind": str}
    models = ("depth_estimator",)

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the depth video."""
        model = self.model("depth_estimator")
        gray = depth_levels(model.depth(cached_video(row.file("source_video"))))
        target = row.new_file("depth_video")
        write_gray(target, gray, row["fps"])
        return {"depth_video": target, "depth_kind": model.kind}
