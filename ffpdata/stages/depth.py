"""Estimate depth, the structure that a stylization must keep (paper, section 3.2: Video Depth Anything)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ffpdata.core.stage import Artifact, Row, Stage
from ffpdata.media.codec import read_video, write_gray


class Depth(Stage):
    """Write `depth_video` (8-bit grey, near = white) and what its numbers are: `pseudo` or `relative`."""

    name, version = "depth", 1
    reads = ("source_video",)
    uses = ("fps",)
    writes = {"depth_video": Artifact("mp4"), "depth_kind": str}
    models = ("depth_estimator",)

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the depth video."""
        model = self.model("depth_estimator")
        depth = model.depth(read_video(row.file("source_video")))
        gray = np.empty(depth.shape, np.uint8)
        for frame, out in zip(depth, gray, strict=True):
            np.clip(np.rint(frame * 255), 0, 255, out=out, casting="unsafe")
        target = row.new_file("depth_video")
        write_gray(target, gray, row["fps"])
        return {"depth_video": target, "depth_kind": model.kind}
