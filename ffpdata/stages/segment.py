"""Segment the object in every frame (paper, section 3.1: Grounded-SAM2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Artifact, Row, Stage
from ffpdata.media.clip_cache import cached_video
from ffpdata.media.codec import write_masks
from ffpdata.media.masks import area
from ffpdata.stages._tasks import outlined


class Segment(Stage):
    """Write the object's masks; the segmenter's guards reject objects that it does not find or track.

    Of several candidates it may be another one than the first that is outlined: `object` is then corrected, so that
    captions and instructions that follow name what is edited.
    """

    name, version = "segment", 2
    reads = ("source_video", "objects", "box")
    uses = ("fps", "task")
    optional = ("box", "task")
    writes = {
        "mask_video": Artifact("mp4"),
        "phrase": str,
        "object": str,
        "segment_score": float,
        "mask_area": float,
        "mask_coverage": float,
        "segment_facts": dict,
    }
    facts_column = "segment_facts"
    models = ("segmenter",)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Edits of an object that is there; what adds one or changes the whole picture passes."""
        return outlined(row.get("task"))

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the lossless mask video, its mean area and the fraction of frames that show the object."""
        box = tuple(row["box"]) if row.get("box") else None
        segmentation = self.model("segmenter").segment(cached_video(row.file("source_video")), row["objects"], box)
        sizes = area(segmentation.masks) / (segmentation.masks.shape[1] * segmentation.masks.shape[2])
        target = row.new_file("mask_video")
        write_masks(target, segmentation.masks, row["fps"])
        return {
            "mask_video": target,
            "phrase": segmentation.phrase,
            "object": segmentation.phrase,
            "segment_score": segmentation.score,
            "mask_area": float(sizes.mean()),
            "mask_coverage": float((sizes > 0).mean()),
            "segment_facts": segmentation.facts,
        }
