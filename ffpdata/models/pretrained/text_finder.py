"""Where text is in a picture: the detector of PP-OCRv4, a map of how probable text is at each pixel (DBNet).

It was trained to find lines to read, in any script, printed or handwritten, and finds faint watermarks too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata.models.pretrained.packaged_backend import PackagedBackend
from ffpdata.models.protocols import Detection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ffpdata.models.protocols import Box, Image

LABEL = "text"

_SIDE = 736
"""Long side of the network's picture: 0.09 CPU seconds for 16:9."""
_STRIDE = 32
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_INSIDE = 0.3
"""Probability from which a pixel belongs to a line, as PP-OCR has it."""
_SURE = 0.6
"""Least mean probability of a line, as PP-OCR has it."""
_GROW = 1.5
"""Lines come out shrunk: their outline is moved outwards by so many times area over perimeter, as PP-OCR has it."""
_LEAST = 3
"""Shortest side of a line before it is grown, in pixels of the network's picture."""


class TextFinder(PackagedBackend):
    """A `Detector` of lines of text. Its one label is `text`."""

    name, version = "ppocr_text", 1
    network = "ppocr_det"

    def detect(self, picture: Image) -> Sequence[Detection]:
        """Return the lines of text in a picture, the surest first."""
        return find_lines(self._session, picture)


def find_lines(session: Any, picture: Image) -> list[Detection]:
    """Return the lines of text in a picture, uint8 (H, W, 3) RGB, the surest first.

    Args:
        session: onnxruntime's, of the network `ppocr_det`.
        picture: of any size.
    """
    probable = text_map(session, picture)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((probable > _INSIDE).astype(np.uint8))
    scale = np.array([picture.shape[1] / probable.shape[1], picture.shape[0] / probable.shape[0]] * 2)
    found = []
    for number in range(1, count):
        x, y, w, h, _ = stats[number].tolist()
        window = np.s_[y : y + h, x : x + w]
        score = float(probable[window][labels[window] == number].mean())
        if min(w, h) < _LEAST or score < _SURE:
            continue
        grow = _GROW * w * h / (2 * (w + h))
        box = np.array([x - grow, y - grow, x + w + grow, y + h + grow]) * scale
        found.append(Detection(LABEL, round(score, 4), _inside(box, picture.shape[:2])))
    return sorted(found, key=lambda one: (-one.score, one.box))


def text_map(session: Any, picture: Image) -> NDArray[np.float32]:
    """Return how probable text is, float32 (h, w) of 0..1, at the size at which the network sees the picture."""
    height, width = picture.shape[:2]
    scale = _SIDE / max(height, width)
    size = [max(_STRIDE, round(side * scale / _STRIDE) * _STRIDE) for side in (width, height)]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    bgr = (small[..., ::-1].astype(np.float32) / 255 - _MEAN) / _STD
    [maps] = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(bgr.transpose(2, 0, 1)[None])})
    found: NDArray[np.float32] = maps[0, 0]
    return found


def _inside(box: NDArray[np.float64], size: tuple[int, int]) -> Box:
    x0, y0, x1, y1 = np.clip(box, 0, (size[1], size[0], size[1], size[0])).round(1).tolist()
    return x0, y0, x1, y1
