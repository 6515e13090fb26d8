"""Find the object in every frame (paper, section 3.1: Grounded-SAM2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Artifact, Row, Stage
from ffpdata.media.clip_cache import see_video
from ffpdata.media.codec import write_masks
from ffpdata.media.masks import area


class Segment(Stage):
    """Write the object's masks; the segmenter's own guards reject what it cannot find or follow."""

    name, version = "segment", 1
    reads = ("source_video", "objects", "box")
    uses = ("fps",)
    optional = ("box",)
    writes = {
        "mask_video": Artifact("mp4"),
        "phrase": str,
        "segment_score": float,
        "mask_area": float,
        "mask_coverage": float,
        "segment_facts": dict,
    }
    facts_column = "segment_facts"
    models = ("segmenter",)

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the lossless mask video, its mean area and the fraction of frames that hold the object."""
        box = tuple(row["box"]) if row.get("box") else None
        found = self.model("segmenter").segment(see_video(row.file("source_video")), row["objects"], box)
        sizes = area(found.masks) / (found.masks.shape[1] * found.masks.shape[2])
        target = row.new_file("mask_video")
        write_masks(target, found.masks, row["fps"])
        return {
            "mask_video": target,
            "phrase": found.phrase,
            "segment_score": found.score,
            "mask_area": float(sizes.mean()),
            "mask_coverage": float((sizes > 0).mean()),
            "segment_facts": found.facts,
        }
