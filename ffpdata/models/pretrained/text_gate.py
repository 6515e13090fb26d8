"""The gate against writing: clips that are covered by it, and clips with a watermark, a logo or subtitles laid over.

What was laid over a clip stays where it is while the picture behind it moves. Where nothing moves behind a line of text
that stays, it may be a sign in the scene: it then counts as laid over only at the edge of the frame, where watermarks
and subtitles stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.media.metrics import evenly_spaced
from ffpdata.models.pretrained.detector import overlap
from ffpdata.models.pretrained.packaged_backend import PackagedBackend
from ffpdata.models.pretrained.text_finder import find_lines
from ffpdata.models.settings import BackendSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ffpdata.models.protocols import Box, Detection, Frames, Image

_SAME = 0.5
"""Lines of two frames with a larger overlap are one line that stays."""
_TALLEST = 0.15
"""Taller lines, of the frame's height, do not count: eyes and rows of coins are taken for large letters."""
_RING = 0.6
"""Width of the ring around a line in which the picture is watched, of the line's height."""
_MOVES = 8.0
"""Mean change of the ring from one looked-at frame to the next, levels of 255, from which the picture moves there."""


class TextGateSettings(BackendSettings):
    """Limits on writing."""

    frames: int = Field(5, ge=1)
    """Frames that are looked at, spread over the clip."""
    max_share: float = Field(0.05, ge=0, le=1)
    """Largest part of the picture that text may cover, on the mean of the frames. A number plate covers 0.002, a line
    of a title 0.02."""
    max_overlay: float = Field(0.0005, ge=0, le=1)
    """Largest part of the picture that lines laid over the clip may cover; a small watermark covers 0.002."""
    stays: float = Field(0.8, gt=0, le=1)
    """A line stays that is found at its place in so large a part of the frames."""
    edge: float = Field(0.2, ge=0, le=0.5)
    """Width of the frame's edge, of its sides, where a line over a still picture counts as laid over."""


class TextGate(PackagedBackend):
    """A `ContentGate` for writing."""

    name, version = "text", 1
    network = "ppocr_det"
    Settings = TextGateSettings

    def inspect(self, frames: Frames) -> dict[str, float]:
        """Return `text_share` and `overlay_share`, parts of the picture. A still image has no overlay that is known.

        Raises:
            Reject: `overlaid_text`, `too_much_text`.
        """
        settings = self.settings
        chosen = [frames[t] for t in evenly_spaced(len(frames), settings.frames)]
        size = frames.shape[1:3]
        found = [_lines(find_lines(self._session, picture), size) for picture in chosen]
        overlay = [line.box for line in self._staying(chosen, found) if line.laid_over]
        facts = {
            "text_share": round(float(np.mean([covered(boxes, size) for boxes in found])), 5),
            "overlay_share": round(covered(overlay, size), 5),
        }
        if facts["overlay_share"] > settings.max_overlay:
            places = "; ".join(",".join(f"{v:.0f}" for v in box) for box in overlay[:3])
            raise Reject(
                "overlaid_text",
                f"text at {places} stays there throughout: a watermark or subtitles on {facts['overlay_share']:.4f} of "
                f"the picture, at most {settings.max_overlay:g}",
                facts,
            )
        if facts["text_share"] > settings.max_share:
            told = f"text covers {facts['text_share']:.3f} of the picture, at most {settings.max_share:g}"
            raise Reject("too_much_text", told, facts)
        return facts

    def _staying(self, pictures: Sequence[Image], found: Sequence[Sequence[Box]]) -> list[_Line]:
        """Return the lines that stay at their place."""
        if len(pictures) < 2:
            return []
        lines: list[_Line] = []
        for box in [box for boxes in found for box in boxes]:
            if any(overlap(box, line.box) > _SAME for line in lines):
                continue
            share = np.mean([any(overlap(box, other) > _SAME for other in boxes) for boxes in found])
            if share >= self.settings.stays:
                lines.append(_Line(box, self._laid_over(pictures, box)))
        return lines

    def _laid_over(self, pictures: Sequence[Image], box: Box) -> bool:
        height, width = pictures[0].shape[:2]
        x, y = (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height
        at_edge = min(x, 1 - x, y, 1 - y) < self.settings.edge
        return at_edge or ring_change(pictures, box) > _MOVES


@dataclass(frozen=True)
class _Line:
    """A line of text that stays at its place.

    Attributes:
        box: x0, y0, x1, y1 in pixels.
        laid_over: whether it was laid over the clip, and is no part of the scene.
    """

    box: Box
    laid_over: bool


def _lines(found: Sequence[Detection], size: tuple[int, int]) -> list[Box]:
    return [one.box for one in found if one.box[3] - one.box[1] <= _TALLEST * size[0]]


def covered(boxes: Sequence[Box], size: tuple[int, int]) -> float:
    """Return the part of a frame of `size` (height, width) that boxes cover together."""
    plane = np.zeros(size, np.uint8)
    for x0, y0, x1, y1 in boxes:
        plane[round(y0) : round(y1), round(x0) : round(x1)] = 1
    return float(plane.mean())


def ring_change(pictures: Sequence[Image], box: Box) -> float:
    """Return how much the picture around a box changes, on the mean from one picture to the next, levels of 255."""
    height, width = pictures[0].shape[:2]
    x0, y0, x1, y1 = (round(v) for v in box)
    wide = max(4, round(_RING * (y1 - y0)))
    top, left = max(0, y0 - wide), max(0, x0 - wide)
    ring: NDArray[np.bool_] = np.ones((min(height, y1 + wide) - top, min(width, x1 + wide) - left), bool)
    ring[y0 - top : y1 - top, x0 - left : x1 - left] = False
    if not ring.any():
        return 0.0
    crops = [picture[top : top + ring.shape[0], left : left + ring.shape[1]] for picture in pictures]
    changes = [cv2.absdiff(a, b)[ring].mean() for a, b in pairwise(crops)]
    return float(np.mean(changes))
