"""Whether a restyled picture can still be read: its edges, its light and dark, and the range between them.

A style of little contrast, or a dark one, turns a bright clip into dark edges. `Tone` brings the coarse light and dark
of the source back under the style's colours and marks; how much of it is needed is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Picture = NDArray[Any]

SIDE = 320
"""Long side, in pixels, at which pictures are compared."""
COARSE = 40
"""Light and dark are compared and mixed at the picture's long side over this, in pixels."""
_STEEPEST = 2.2
"""Largest factor by which a place is made lighter; what is missing then is added as white."""
_FLAT = 12.0
"""Range of grey levels of a source below which its light and dark say nothing."""
_PLAIN = 1.0
"""Standard deviation of the edges of a source, grey levels, below which they say nothing."""


@dataclass(frozen=True)
class Legibility:
    """How well a restyled picture can be read against its source.

    Attributes:
        edges: correlation of the edges, -1..1.
        tones: correlation of coarse light and dark, -1..1.
        range: range of coarse light and dark, of the source's; 1 where the source has none.
    """

    edges: float
    tones: float
    range: float

    def lacks(self, edges: float, tones: float, light_range: float, leave: float = 1.0) -> str:
        """Return what is below the given limits times `leave`, with values, or nothing."""
        found = [
            f"{name} {value:.2f}, at least {limit:g}"
            for name, value, limit in (
                ("its edges agree with the source's by", self.edges, edges),
                ("its light and dark agree by", self.tones, tones),
                ("its contrast of the source's is", self.range, light_range),
            )
            if value < leave * limit
        ]
        return "; ".join(found)


def measure(sources: Sequence[Image], results: Sequence[Image]) -> Legibility:
    """Measure restyled frames against their sources, each uint8 (H, W, 3), by the mean over the frames."""
    found = [_one(*pair) for pair in zip(sources, results, strict=True)]
    edges, tones, ranges = (float(np.mean(values)) for values in zip(*found, strict=True))
    return Legibility(edges, tones, ranges)


def with_tone(picture: Picture, source: Image, share: float) -> Picture:
    """Give a restyled picture, float32 (h, w, 3) of 0..1, a share, 0..1, of its source's coarse light and dark."""
    if share <= 0:
        return picture
    height, width = picture.shape[:2]
    size = (max(2, width // 8), max(2, height // 8))
    sigma = max(1.0, max(size) / COARSE)
    own, goal = (
        cv2.GaussianBlur(
            cv2.cvtColor(cv2.resize(one, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY), (0, 0), sigma
        )
        for one in (picture.astype(np.float32), source.astype(np.float32) / np.float32(255))
    )
    wanted = own + np.float32(share) * (goal - own)
    factor = np.clip(wanted / np.maximum(own, 0.02), 0.25, _STEEPEST)
    rest = wanted - own * factor
    whole = (width, height)
    factor, rest = (cv2.resize(plane, whole, interpolation=cv2.INTER_LINEAR)[..., None] for plane in (factor, rest))
    out: Picture = picture * factor + rest
    return out


def _one(source: Image, result: Image) -> tuple[float, float, float]:
    scale = min(1.0, SIDE / max(source.shape[:2]))
    size = (max(8, round(source.shape[1] * scale)), max(8, round(source.shape[0] * scale)))
    greys = [
        cv2.cvtColor(cv2.resize(one, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(np.float32)
        for one in (source, result)
    ]
    edges = [_edges(grey) for grey in greys]
    coarse = [cv2.GaussianBlur(grey, (0, 0), max(size) / COARSE) for grey in greys]
    ranges = [float(np.quantile(plane, 0.95) - np.quantile(plane, 0.05)) for plane in coarse]
    agree = 1.0 if edges[0].std() < _PLAIN else _correlation(*edges)
    return (agree, 1.0, 1.0) if ranges[0] < _FLAT else (agree, _correlation(*coarse), ranges[1] / ranges[0])


def _edges(grey: Picture) -> Picture:
    soft = cv2.GaussianBlur(grey, (0, 0), 1.5)
    steep = np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1))
    out: Picture = cv2.GaussianBlur(steep, (0, 0), 1.5)
    return out


def _correlation(first: Picture, second: Picture) -> float:
    deviations = float(first.std()), float(second.std())
    if min(deviations) < 1e-6:
        return 0.0
    return float(((first - first.mean()) * (second - second.mean())).mean() / (deviations[0] * deviations[1]))
