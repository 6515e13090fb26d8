"""The salient object of a picture: U-2-Net, small version (u2netp), on a frame or around a box.

On a box with a margin it outlines the object in the box: the object is then what is most salient. Maps are as the
network gives them, not stretched to 0..1, because a stretched map of an empty scene shows an object, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.protocols import Box, Image

    Plane = NDArray[np.float32]

MARGIN = 0.25
"""Margin on each side of a box, of its own width and height."""

_SIDE = 320
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_BATCH = 4
"""Pictures at a time: more save nothing on one thread and cost 60 MB each."""


class SalientObjects:
    """The network on an onnxruntime session."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self._output = session.get_outputs()[0].name

    def maps(self, pictures: Sequence[Image]) -> list[Plane]:
        """Return how salient each pixel is, float32 (320, 320) of 0..1, per picture, uint8 (H, W, 3) RGB."""
        out: list[Plane] = []
        for start in range(0, len(pictures), _BATCH):
            batch = np.stack([_normalised(picture) for picture in pictures[start : start + _BATCH]])
            out += list(self._session.run([self._output], {self._input: batch})[0][:, 0])
        return out

    def around(self, frames: Sequence[Image], boxes: Sequence[Box]) -> list[Plane]:
        """Return maps float32 (H, W) of 0..1 of what is salient around one box in each frame; 0 beyond its margin."""
        places = [margin_box(box, frame.shape[:2]) for frame, box in zip(frames, boxes, strict=True)]
        crops = [frame[y0:y1, x0:x1] for frame, (x0, y0, x1, y1) in zip(frames, places, strict=True)]
        out = []
        for frame, (x0, y0, x1, y1), small in zip(frames, places, self.maps(crops), strict=True):
            plane = np.zeros(frame.shape[:2], np.float32)
            plane[y0:y1, x0:x1] = cv2.resize(small, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
            out.append(plane)
        return out


def margin_box(box: Box, size: tuple[int, int], margin: float = MARGIN) -> tuple[int, int, int, int]:
    """Return a box with `margin` on each side, in whole pixels, within a frame of `size` (height, width)."""
    x0, y0, x1, y1 = box
    dx, dy = margin * (x1 - x0), margin * (y1 - y0)
    left, top = max(0, int(x0 - dx)), max(0, int(y0 - dy))
    right, bottom = min(size[1], int(np.ceil(x1 + dx))), min(size[0], int(np.ceil(y1 + dy)))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _normalised(picture: Image) -> Plane:
    small = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    scaled = (small / max(1.0, float(small.max())) - _MEAN) / _STD
    return np.ascontiguousarray(scaled.transpose(2, 0, 1), np.float32)
