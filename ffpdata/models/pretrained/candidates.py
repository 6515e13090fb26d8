"""What could be edited in a frame: named things that a detector finds, and salient things without a name.

The order follows the paper's question (section 7.1.1): the smallest salient thing that people edit comes first, a cup
before the hands, a dog before the person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.models.pretrained.detector import Detection, area, overlap, share_inside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.protocols import Box

    Plane = NDArray[np.float32]

SAME_KIND = (
    ("coffee cup", "mug"),
    ("car", "vehicle"),
    ("dog", "cat", "cattle"),
    ("bicycle", "stationary bicycle"),
    ("laptop", "computer monitor"),
    ("table", "desk"),
)
"""Labels that the detector gives to one and the same thing."""

SAID = {"coffee cup": "cup", "mug": "cup", "stationary bicycle": "bike", "bicycle": "bike"}
"""What people say for a label. Motorcycles get the label of bicycles, too."""

SURE_NAMES = {"person": 0.38, "coffee cup": 0.45, "mug": 0.45, "bicycle": 0.45, "stationary bicycle": 0.45}
SURE_NAMES |= {"car": 0.55, "laptop": 0.55, "dog": 0.68, "cat": 0.68, "bottle": 0.68, "box": 1.01}
"""Score from which a label is the thing's name; `SURE_NAME` for all others. Plastic cups are bottles with .59, plush
bears dogs with .66, and whatever is square is a box."""
SURE_NAME = 0.6
WIDER_NAMES = {"car": ("vehicle", 0.4), "vehicle": ("vehicle", 0.4)}
WIDER_NAMES |= dict.fromkeys(("dog", "cat", "cattle"), ("animal", 0.5))
"""What is said of a thing whose label is less sure, and the score from which that is true."""

FIXED = frozenset({"table", "desk", "computer monitor"})
"""Labels of what other things stand on or belong to; nobody edits them first, and their outline is unclear."""

WORDS = {
    "person": "person man woman boy girl child kid people human astronaut player dancer rider worker baby lady guy",
    "coffee cup": "cup mug teacup coffee",
    "car": "car taxi truck van bus suv pickup jeep vehicle",
    "bicycle": "bicycle bike",
    "dog": "dog puppy animal",
    "cat": "cat kitten",
    "cattle": "cattle cow bull calf",
    "laptop": "laptop notebook computer",
    "computer mouse": "mouse",
    "computer monitor": "monitor screen display",
    "bottle": "bottle flask",
    "book": "book",
    "camera": "camera",
    "chair": "chair armchair",
    "box": "box crate carton",
    "table": "table desk",
}
"""Words of users, by the label under which the detector finds such a thing."""

GENERIC = frozenset({"object", "thing", "moving object", "subject", "item"})
"""Phrases that ask for whatever there is."""

MIN_AREA = 0.002
"""Smallest candidate, of the frame."""
MAX_AREA = 0.45
MAX_BOX = 0.75
"""Largest box of a named candidate: of a close-up about half of it is the thing itself."""
_SURE = 0.45
"""Score from which the place of a detection is taken: nothing without a name is looked for there."""
_SALIENT = 0.5
_SMALLER_FIRST = 0.3
"""Exponent of the area in the order of candidates: a tenth of the area counts as much as twice the score."""


@dataclass(frozen=True)
class Candidate:
    """Something that could be edited.

    Attributes:
        label: of the detector; "" for a salient thing without a name.
        box: x0, y0, x1, y1 in pixels of the frame.
        value: for the order, best first; comparable within a frame alone.
        score: of the label, or how salient it is where it has none.
    """

    label: str
    box: Box
    value: float
    score: float = 1.0

    @property
    def name(self) -> str:
        """What people call it."""
        return spoken(self.label, self.score)


def spoken(label: str, score: float = 1.0) -> str:
    """Return what people call a thing with a label of such a score: a wider name where it is unsure, or `object`."""
    if label and score >= SURE_NAMES.get(label, SURE_NAME):
        return SAID.get(label, label)
    wider, least = WIDER_NAMES.get(label, ("", 1.0))
    return wider if wider and score >= least else "object"


def kinds(label: str) -> frozenset[str]:
    """Return the labels that may stand for the same thing as `label`."""
    return next((frozenset(group) for group in SAME_KIND if label in group), frozenset({label}))


def labels_of(phrase: str) -> frozenset[str]:
    """Return the labels that a user's phrase may have; empty where the detector does not know such a thing."""
    for word in reversed(phrase.lower().split()):
        for label, words in WORDS.items():
            if word in words.split() or word.removesuffix("s") in words.split():
                return kinds(label)
    return frozenset()


def named_candidates(found: Sequence[Detection], saliency: Plane, size: tuple[int, int]) -> list[Candidate]:
    """Return what of the detections could be edited, best first.

    Args:
        found: detections in the frame.
        saliency: float32 of 0..1, map of the whole frame at any size.
        size: height and width of the frame.
    """
    out = []
    for one in found:
        part = area(one.box) / (size[0] * size[1])
        if one.label not in FIXED and MIN_AREA <= part <= MAX_BOX:
            seen = 0.5 + 0.5 * _peak(saliency, one.box, size)
            out.append(Candidate(one.label, one.box, one.score * seen * part**-_SMALLER_FIRST, one.score))
    return sorted(out, key=lambda c: (-c.value, c.box))


def salient_candidates(saliency: Plane, taken: Sequence[Box], size: tuple[int, int]) -> list[Candidate]:
    """Return salient things that stand apart from what has a name, best first.

    Args:
        saliency: float32 of 0..1, map of the whole frame at any size.
        taken: boxes in pixels of the frame in which nothing is looked for.
        size: height and width of the frame.
    """
    height, width = saliency.shape
    count, labels, stats, _ = cv2.connectedComponentsWithStats((saliency > _SALIENT).astype(np.uint8))
    scale = np.array([size[1] / width, size[0] / height] * 2)
    out = []
    for i in range(1, count):
        x, y, w, h, pixels = (int(v) for v in stats[i])
        box: Box = tuple((np.array([x, y, x + w, y + h]) * scale).tolist())
        part = pixels / saliency.size
        if MIN_AREA <= part <= MAX_AREA and not any(_shares(box, other) for other in taken):
            sure = float(saliency[labels == i].mean())
            out.append(Candidate("", box, sure * part**-_SMALLER_FIRST, sure))
    return sorted(out, key=lambda c: (-c.value, c.box))


def sure_boxes(found: Sequence[Detection]) -> list[Box]:
    """Return the boxes of what surely has a name."""
    return [one.box for one in found if one.score >= _SURE and one.label not in FIXED]


def _shares(box: Box, other: Box) -> bool:
    return overlap(box, other) > 0.3 or share_inside(box, other) > 0.6 or share_inside(other, box) > 0.6


def _peak(saliency: Plane, box: Box, size: tuple[int, int]) -> float:
    """Return the 80th percentile of the saliency in a box."""
    height, width = saliency.shape
    x0, x1 = (int(box[i] * width / size[1]) for i in (0, 2))
    y0, y1 = (int(box[i] * height / size[0]) for i in (1, 3))
    return float(np.quantile(saliency[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)], 0.8))
