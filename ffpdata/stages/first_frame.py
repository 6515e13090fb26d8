"""Take the edited first frame that an input names for a clip, at the clip's size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydantic import Field

from ffpdata.core.keys import digest
from ffpdata.core.stage import Artifact, Reject, Row, Stage, StageSettings
from ffpdata.media.codec import read_first_frame, read_image
from ffpdata.media.geometry import Geometry
from ffpdata.media.images import conform_image, probe_image

if TYPE_CHECKING:
    from ffpdata.models.protocols import Image, Mask

CHANGED, BLUR = 16.0, 5
"""Levels of 255 by which a pixel differs that was edited, on averages over so many pixels each way: what another coder
or scaler makes of a frame stays below."""


class FirstFrameSettings(StageSettings):
    """What an edited first frame must be."""

    clip: Geometry = Geometry()
    aspect_tolerance: float = Field(0.02, ge=0)
    """Largest relative difference of its aspect ratio from the source's: another one would be another picture."""
    min_side: int = 240
    """Shortest side of the image in pixels, as `ingest` asks of the source."""
    least_change: float = Field(0.0005, ge=0, le=1)
    """Smallest share of the picture that must differ from the clip's own first frame: below it nothing was edited."""


class FirstFrame(Stage):
    """Write `edited_first_frame` out of the image that the table's column `edited_first_frame` names."""

    name, version = "first_frame", 1
    reads = ("edited_first_frame_ids", "source_video", "given_caption")
    uses = ("root", "edited_first_frame_paths", "width", "height", "source_width", "source_height")
    optional = ("edited_first_frame_ids", "given_caption", "source_width", "source_height")
    writes = {"edited_first_frame": Artifact("png"), "target_caption": str, "seed": int, "first_frame_change": float}
    Settings = FirstFrameSettings

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the frame, the caption as the words for the model, and a seed that follows from the frame.

        Raises:
            Reject: `no_edited_first_frame`, `aspect_differs`, `first_frame_unchanged`, or of the image.
        """
        paths = row.get("edited_first_frame_paths") or []
        if len(paths) != 1:
            raise Reject(
                "no_edited_first_frame",
                f"the row names {len(paths)} edited first frames: name one image in `edited_first_frame`",
            )
        given = row.input(paths[0])
        self._check_aspect(row, given)
        target = row.new_file("edited_first_frame")
        conform_image(given, target, self.settings.clip, min_side=self.settings.min_side)
        change = changed_share(read_first_frame(row.file("source_video")), read_image(target))
        if change < self.settings.least_change:
            raise Reject(
                "first_frame_unchanged",
                f"{change:.2%} of it differ from the clip's own first frame, the limit is "
                f"{self.settings.least_change:.2%}: there is no edit to carry on",
            )
        return {
            "edited_first_frame": target,
            "target_caption": row.get("given_caption") or "",
            "seed": int(digest(row["edited_first_frame_ids"])[:7], 16),
            "first_frame_change": round(change, 5),
        }

    def _check_aspect(self, row: Row, image: Path) -> None:
        width, height = probe_image(image)
        wide, high = row.get("source_width") or row["width"], row.get("source_height") or row["height"]
        off = abs((width / height) / (wide / high) - 1)
        if off > self.settings.aspect_tolerance:
            raise Reject(
                "aspect_differs",
                f"the edited frame is {width} x {height}, the source {wide} x {high}: aspect ratios differ by "
                f"{off:.0%}, the limit is {self.settings.aspect_tolerance:.0%}. Edit the clip's own first frame",
            )


def changed_share(own: Image, edited: Image) -> float:
    """Return the share of the picture, 0..1, in which two frames of one size, uint8 (H, W, 3), differ visibly."""
    return float(changed_pixels(own, edited).mean())


def changed_pixels(own: Image, edited: Image) -> Mask:
    """Return bool (H, W), True where two frames of one size, uint8 (H, W, 3), differ visibly."""
    difference = cv2.blur(own.astype(np.float32) - edited, (BLUR, BLUR))
    found: Mask = np.abs(difference).max(axis=2) >= CHANGED
    return found
