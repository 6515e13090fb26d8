"""The region of an edit: out of masks that the input names, or the box around what differs in the first frame."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from ffpdata.core.keys import digest
from ffpdata.core.stage import Artifact, Reject, Row, Stage, StageSettings
from ffpdata.media.codec import read_first_frame, read_image, read_video, write_masks
from ffpdata.media.conform import conform
from ffpdata.media.geometry import Geometry
from ffpdata.media.images import conform_image, is_image
from ffpdata.media.probe import probe
from ffpdata.models.loraedit.region import Looseness, difference, loosen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Masks = NDArray[np.bool_]

MIDDLE = 127
"""Level of a mask's pixel above which it is white."""


class EditRegionSettings(StageSettings):
    """How loose the region is, and what is too much or too little."""

    clip: Geometry = Geometry()
    looseness: Looseness = "box"
    """`box`: boxes around the mask's parts; `noise`: blocks of 7 x 7 pixels along its outline; `none`: the mask."""
    margin: float = Field(0.1, ge=0)
    """By which boxes are grown on each side, as a fraction of their own (LoRA-Edit's code)."""
    most: float = Field(0.95, gt=0, le=1)
    """Largest share of the clip that the region may be: beyond it nothing is kept that the model could go by."""
    min_side: int = 240
    """Shortest side of a mask file in pixels, as `ingest` asks of the source."""


class EditRegion(Stage):
    """Write `condition_mask`: where the clip may change."""

    name, version = "edit_region", 1
    reads = ("source_video", "edited_first_frame", "mask_ids")
    uses = ("root", "mask_paths", "width", "height", "frames", "fps", "source_width", "source_height")
    optional = ("mask_ids", "mask_paths", "source_width", "source_height")
    writes = {"condition_mask": Artifact("mp4"), "region_share": float, "region_from": str}
    Settings = EditRegionSettings

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the region.

        Raises:
            Reject: `empty_mask`, `mask_covers_all`, `several_masks`, `aspect_differs`, or of the mask's file.
        """
        paths = row.get("mask_paths") or []
        if len(paths) > 1:
            raise Reject("several_masks", f"the row names {len(paths)} masks: name one image or one clip in `mask`")
        masks = self._given(row, row.input(paths[0])) if paths else self._of_the_edit(row)
        told = "the mask" if paths else "what differs in the first frame"
        seed = int(digest(row["source_video"])[:7], 16)
        settings = self.settings
        region = loosen(masks, settings.looseness, margin=settings.margin, seed=seed)
        later = region[1:]
        if not later.any():
            raise Reject(
                "empty_mask",
                f"{told} has no part of 50 pixels or more behind the first frame: draw white what shall change",
            )
        share = float(later.mean())
        if share > settings.most:
            raise Reject(
                "mask_covers_all",
                f"{told} covers {share:.0%} of the clip, the limit is {settings.most:.0%}: nothing of it would be "
                "kept. Name a smaller mask in `mask`, or take --method freeprop",
                {"region_share": round(share, 4)},
            )
        target = row.new_file("condition_mask")
        write_masks(target, region, row["fps"])
        return {
            "condition_mask": target,
            "region_share": round(share, 4),
            "region_from": "mask" if paths else "difference",
        }

    def _of_the_edit(self, row: Row) -> Masks:
        found = difference(read_first_frame(row.file("source_video")), read_image(row.file("edited_first_frame")))
        return np.repeat(found, row["frames"], axis=0)

    def _given(self, row: Row, path: Path) -> Masks:
        """Return the masks of a file at the clip's size: of an image the same in all frames."""
        settings = self.settings
        with tempfile.TemporaryDirectory() as folder:
            if is_image(path):
                target = Path(folder, "mask.png")
                conform_image(path, target, settings.clip, min_side=settings.min_side)
                found = np.repeat(read_image(target)[None], row["frames"], axis=0)
            else:
                info, target = probe(path), Path(folder, "mask.mp4")
                self._check_aspect(row, info.width, info.height)
                conform(path, target, settings.clip, info, crop_bars=False, min_side=settings.min_side)
                found = read_video(target)
        if found.shape[:3] != (row["frames"], row["height"], row["width"]):
            raise Reject(
                "aspect_differs",
                f"the mask is {found.shape[2]} x {found.shape[1]} x {len(found)}, the clip {row['width']} x "
                f"{row['height']} x {row['frames']}: draw it over the clip itself",
            )
        masks: Masks = found.max(axis=3) > MIDDLE
        return masks

    @staticmethod
    def _check_aspect(row: Row, width: int, height: int) -> None:
        wide, high = row.get("source_width") or row["width"], row.get("source_height") or row["height"]
        if abs((width / height) / (wide / high) - 1) > 0.02:
            raise Reject("aspect_differs", f"the mask is {width} x {height}, the source {wide} x {high}")
