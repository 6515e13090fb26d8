"""Objects with names in a frame: SSD-MobileNetV2 of MediaPipe Objectron, 23 classes of Open Images.

The network sees a square of 300 pixels. Its scores are low by nature: .45 is sure, below .3 names are guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata.models.protocols import Detection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.protocols import Box, Image

    Boxes = NDArray[np.float32]

LABELS = (
    "bicycle",
    "boot",
    "laptop",
    "person",
    "chair",
    "cattle",
    "desk",
    "cat",
    "computer mouse",
    "computer monitor",
    "box",
    "mug",
    "coffee cup",
    "stationary bicycle",
    "table",
    "bottle",
    "high heels",
    "vehicle",
    "footwear",
    "dog",
    "book",
    "camera",
    "car",
)
"""The network's classes, in the order of its columns 1 to 23; column 0 is the background."""

WORN = frozenset({"boot", "high heels", "footwear"})
"""Classes that are a part of a person: they are never returned, because an edit of one is an edit of the person."""

MIN_SCORE = 0.3
"""Score from which a detection counts; 8 real frames had one wrong name above it."""

_SIDE = 300
_GRIDS = (19, 10, 5, 3, 2, 1)
"""Cells along a side of the six feature maps."""
_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
"""Side of an anchor on each feature map, of the picture's; one more for the last map's sixth anchor."""
_VARIANCES = np.array([10, 10, 5, 5], np.float32)
"""Divisors of the predicted y, x, height and width."""
_SAME = 0.5
"""Boxes with a larger overlap are one object, whatever their names."""
_WITHIN = 0.85
"""A box with a larger share of it inside a better one of the same name is a part of that object."""
_CUT = 0.01
"""A box nearer to a crop's edge than this share of its side is cut off there."""


class ObjectDetector:
    """The network on a LiteRT interpreter."""

    def __init__(self, interpreter: Any) -> None:
        """Take a LiteRT interpreter of the network whose tensors are allocated."""
        self._network = interpreter
        self._input = self._network.get_input_details()[0]["index"]
        outputs = {d["shape"][-1]: d["index"] for d in self._network.get_output_details()}
        self._boxes, self._logits = outputs[4], outputs[len(LABELS) + 1]

    def detect(self, frame: Image, *, least: float = MIN_SCORE, crops: Sequence[Box] | None = None) -> list[Detection]:
        """Find objects in the whole frame, and in crops of it at full size where small ones are large enough.

        Args:
            frame: uint8 (H, W, 3) RGB.
            least: smallest score.
            crops: boxes in pixels to look into as well; those of `square_crops` where None.

        Returns:
            The objects, best first; without what a person wears, and one for each object, whatever was said of it.
        """
        height, width = frame.shape[:2]
        whole = (0.0, 0.0, float(width), float(height))
        found = []
        for crop in (whole, *(square_crops(height, width) if crops is None else crops)):
            x0, y0, x1, y1 = (round(v) for v in crop)
            boxes, scores = self._run(frame[y0:y1, x0:x1])
            kept = scores.max(axis=1) >= least
            for box, row in zip(boxes[kept], scores[kept], strict=True):
                if not _is_cut(box, (x0 == 0, y0 == 0, x1 == width, y1 == height)):
                    place = np.array([x0, y0, x0, y0]) + box.clip(0, 1) * (x1 - x0, y1 - y0, x1 - x0, y1 - y0)
                    label = LABELS[int(row.argmax())]
                    found.append(Detection(label, float(row.max()), tuple(place.tolist())))
        return [d for d in suppress(found) if d.label not in WORN]

    def _run(self, picture: Image) -> tuple[Boxes, NDArray[np.float32]]:
        """Return boxes (1917, 4) as x0, y0, x1, y1 of 0..1, and scores (1917, 23)."""
        small = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        self._network.set_tensor(self._input, small[None].astype(np.float32) / 127.5 - 1)
        self._network.invoke()
        logits = self._network.get_tensor(self._logits)[0]
        return decode(self._network.get_tensor(self._boxes)[0]), 1 / (1 + np.exp(-logits[:, 1:]))


def square_crops(height: int, width: int) -> list[Box]:
    """Return squares over the long side of a frame, as x0, y0, x1, y1, that overlap by a third at least."""
    side, long = min(height, width), max(height, width)
    count = 1 + int(np.ceil((long - side) / (2 * side / 3))) if long > side else 0
    starts = [round(k * (long - side) / (count - 1)) for k in range(count)] if count > 1 else []
    if width >= height:
        return [(s, 0, s + side, side) for s in starts]
    return [(0, s, side, s + side) for s in starts]


def anchors() -> Boxes:
    """Return the centre y, x and the height and width of every anchor, float32 (1917, 4), of 0..1."""
    rows = []
    for k, grid in enumerate(_GRIDS):
        scale, between = _SCALES[k], float(np.sqrt(_SCALES[k] * _SCALES[k + 1]))
        shapes = [(scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 1 / 3)] + [(between, 1.0)]
        if k == 0:
            shapes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        for y in range(grid):
            for x in range(grid):
                centre = (y + 0.5) / grid, (x + 0.5) / grid
                rows += [(*centre, s / np.sqrt(ratio), s * np.sqrt(ratio)) for s, ratio in shapes]
    return np.array(rows, np.float32)


_ANCHORS = anchors()


def decode(encoded: Boxes) -> Boxes:
    """Turn the network's offsets from its anchors, (1917, 4), into x0, y0, x1, y1 of 0..1 (beyond it where cut off)."""
    offsets = encoded / _VARIANCES
    centres = _ANCHORS[:, :2] + offsets[:, :2] * _ANCHORS[:, 2:]
    halves = _ANCHORS[:, 2:] * np.exp(offsets[:, 2:]) / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)[:, [1, 0, 3, 2]]


def suppress(found: Sequence[Detection]) -> list[Detection]:
    """Keep the best of the detections that show one object, best first; ties by place, so that reruns agree."""
    kept: list[Detection] = []
    for one in sorted(found, key=lambda d: (-d.score, d.box, d.label)):
        if not any(overlap(one.box, k.box) > _SAME or _is_part(one, k) for k in kept):
            kept.append(one)
    return kept


def overlap(a: Box, b: Box) -> float:
    """Return intersection over union of two boxes."""
    common = _common(a, b)
    return common / max(1e-9, area(a) + area(b) - common)


def area(box: Box) -> float:
    """Return the area of a box."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def share_inside(a: Box, b: Box) -> float:
    """Return the share of box `a` that lies in box `b`."""
    return _common(a, b) / max(1e-9, area(a))


def _common(a: Box, b: Box) -> float:
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def _is_part(one: Detection, better: Detection) -> bool:
    return one.label == better.label and share_inside(one.box, better.box) > _WITHIN


def _is_cut(box: NDArray[np.float32], at_frame: tuple[bool, ...]) -> bool:
    """Return whether a crop's edge cuts the box off where the frame goes on."""
    near = (box[0] < _CUT, box[1] < _CUT, box[2] > 1 - _CUT, box[3] > 1 - _CUT)
    return any(cut and not edge for cut, edge in zip(near, at_frame, strict=True))
