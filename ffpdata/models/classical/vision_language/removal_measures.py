"""Measures of a removal.

The background behind the object is visible at other times of the clip. Frames are aligned by the camera's path, so that
the fill can be compared with the real background. All numbers are measured on a dozen small frames and take about a
CPU-second per 720p clip.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata.media.flow import camera_path, gray, shrink_to_width

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Clip = NDArray[np.uint8]
    Masks = NDArray[np.bool_]
    Map = NDArray[Any]

SIDE = 480
"""Long side, in pixels, at which clips are compared."""
MOMENTS = 9
"""Instants of a clip that are measured; each is a frame and its successor."""
RING = 0.06
"""Width of the ring around a mask that represents its surroundings, as a fraction of the long side."""
PARTNERS = 3
"""Other instants with which a fill is compared."""
VISIBLE = 4.0
"""Difference of grey levels (0..255) from which an object is distinct from its background."""


@dataclass(frozen=True)
class RemovalMeasures:
    """Defects of a removal. Each number but `known` is 0 for a perfect one.

    Attributes:
        left: part of the object's own edges that remains, in the worst third of the instants; 1 is all of it.
        wrong: distance of the fill from the background visible there at other times; 1 is as far as the object.
        known: part of the fill for which such a background is visible.
        flicker: change of the fill from frame to frame beyond that of its surroundings, grey levels 0..255.
        soft: detail that the fill lacks, 0..1, compared with the real background, or with its surroundings.
        seam: ratio of the gradient along the mask's contour to that beside it, minus 1.
        shade: area of remaining changes beside the object, such as its shadow, over its own area.
        spill: mean change far outside the mask, grey levels 0..255.
    """

    left: float = 1.0
    wrong: float = 1.0
    known: float = 0.0
    flicker: float = 0.0
    soft: float = 0.0
    seam: float = 0.0
    shade: float = 0.0
    spill: float = 0.0


SHADE = 8.0
"""Lasting difference of grey levels that makes a shadow."""


class _RunningMeans:
    """Running means by name, weighted by pixels."""

    def __init__(self) -> None:
        self._total: defaultdict[str, float] = defaultdict(float)
        self.count: defaultdict[str, float] = defaultdict(float)

    def add(self, name: str, values: Map) -> None:
        self._total[name] += float(values.sum())
        self.count[name] += values.size

    def __getitem__(self, name: str) -> float:
        return self._total[name] / self.count[name] if self.count[name] else 0.0


def measure_removal(source: Clip, target: Clip, masks: Masks) -> RemovalMeasures | None:
    """Measure a removal.

    Args:
        source: uint8 (T, H, W, 3) RGB.
        target: the same clip without the object.
        masks: bool (T, H, W), the object in the source.

    Returns:
        The measures, or None where the masks are empty or do not fit the clips.
    """
    pair = _GrayPair.build(source, target, masks)
    if pair is None:
        return None
    means = _RunningMeans()
    left, seams = [], []
    for i in pair.moments:
        seams.append(_seam(pair.target[i], pair.masks[i]))
        _add_flicker(pair, i, means)
        left.append(_compare_with_background(pair, i, means))
    worst = sorted(left)[-max(1, len(left) // 3) :]
    known = means.count["fill"] > 0
    span = max(means["object"] - means["floor"], VISIBLE)
    detail = ("detail_fill", "detail_true") if known else ("detail_inside", "detail_ring")
    return RemovalMeasures(
        left=float(np.clip(np.mean(worst), 0, 1)),
        wrong=float(np.clip((means["fill"] - means["floor"]) / span, 0, 1)) if known else 0.0,
        known=means.count["fill"] / means.count["detail_inside"],
        flicker=max(0.0, means["beat_inside"] - means["beat_ring"]),
        soft=1 - min(1.0, (means[detail[0]] + 0.5) / (means[detail[1]] + 0.5)),
        seam=max(0.0, float(np.median(seams))),
        shade=means["shade"],
        spill=means["spill"],
    )


@dataclass(frozen=True)
class _GrayPair:
    """Small grey frames of both clips at a few instants, in pairs (t, t + 1), and the camera's path over them.

    Attributes:
        source, target: float32 (n, h, w), 0..255, slightly smoothed.
        masks: bool (n, h, w).
        paths: float64 (n, 3, 3), from each frame to the reference frame.
        moments: indices of the measured instants: the next index is the next frame.
        ring: width of the surroundings, pixels.
    """

    source: Map
    target: Map
    masks: Masks
    paths: Map
    moments: list[int]
    ring: int

    @classmethod
    def build(cls, source: Clip, target: Clip, masks: Masks) -> _GrayPair | None:
        if source.shape != target.shape or masks.shape != source.shape[:3] or len(masks) < 2:
            return None
        starts = np.unique(np.linspace(0, len(source) - 2, MOMENTS).round().astype(int))
        times = sorted({int(t) for start in starts for t in (start, start + 1)})
        width = max(1, round(SIDE * source.shape[2] / max(source.shape[1:3])))
        small, edited = (np.stack([shrink_to_width(gray(clip[t]), width) for t in times]) for clip in (source, target))
        size = small.shape[:0:-1]
        where = (
            np.stack([cv2.resize(masks[t].astype(np.float32), size, interpolation=cv2.INTER_AREA) for t in times])
            > 0.25
        )
        moments = [i for i, t in enumerate(times) if t in starts and where[i].any()]
        if not moments:
            return None
        soft = [
            np.stack([cv2.GaussianBlur(g.astype(np.float32), (0, 0), 0.7) for g in clip]) for clip in (small, edited)
        ]
        path = camera_path(small, where).to_reference
        return cls(soft[0], soft[1], where, path, moments, max(3, round(RING * max(size))))

    def warp(self, image: Map, i: int, j: int) -> Map:
        """Warp the `image` of frame `j` onto frame `i`; NaN outside it."""
        if np.array_equal(self.paths[i], self.paths[j]):
            return image.astype(np.float32)
        matrix = np.linalg.inv(self.paths[j]) @ self.paths[i]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        nan = float("nan")
        return cv2.warpPerspective(
            image.astype(np.float32),
            matrix,
            image.shape[::-1],
            flags=flags,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=nan,
        )

    def background(self, i: int) -> Map:
        """Return the background behind the object of frame `i` and around it, from other instants; NaN where hidden."""
        hidden = grow(self.masks[i], 2 * self.ring)
        views = []
        for j in self.moments:
            if j != i:
                seen = self.source[j].copy()
                seen[grow(self.masks[j], self.ring)] = np.nan
                view = self.warp(seen, i, j)
                views.append((float((np.isfinite(view) & hidden).sum()), view))
        views.sort(key=lambda entry: -entry[0])
        background = np.full(self.source[i].shape, np.nan, np.float32)
        for _, view in views[:PARTNERS]:
            background = np.where(np.isfinite(background), background, view)
        return background


def grow(mask: Map, px: int) -> Map:
    """Dilate one bool mask (h, w) by a square of `px` pixels."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * px + 1, 2 * px + 1), np.uint8)) > 0


def _leftover(source: Map, target: Map, background: Map | None, where: Map) -> float:
    """Return how much of the source's edges remains in the target at `where`.

    It is the source's coefficient in the least-squares fit of the target's gradients by those of source and background.
    """
    parts = [source] if background is None else [source, background]
    products, projections = np.eye(len(parts)) * 1e-3, np.zeros(len(parts))
    for dx, dy in ((1, 0), (0, 1)):
        slopes = np.stack([cv2.Sobel(image, cv2.CV_32F, dx, dy)[where] for image in parts]).astype(np.float64)
        products += slopes @ slopes.T
        projections += slopes @ cv2.Sobel(target, cv2.CV_32F, dx, dy)[where]
    return float(np.linalg.solve(products, projections)[0])


def _seam(target: Map, mask: Map) -> float:
    """Return the ratio of the target's gradient on the mask's contour to that beside it, minus 1."""
    steep = np.hypot(cv2.Sobel(target, cv2.CV_32F, 1, 0), cv2.Sobel(target, cv2.CV_32F, 0, 1))
    wide, narrow = grow(mask, 2), ~grow(~mask, 2)
    contour = wide & ~narrow
    beside = [grow(mask, 7) & ~grow(mask, 3), ~grow(~mask, 3) & grow(~mask, 7)]
    levels = [float(steep[band].mean()) for band in beside if band.any()]
    return float(steep[contour].mean()) / (max(levels, default=0.0) + 4.0) - 1 if contour.any() else 0.0


def _add_flicker(pair: _GrayPair, i: int, means: _RunningMeans) -> None:
    """Add the changes to the target's next frame, in the fill and around it."""
    if i + 1 >= len(pair.target):
        return
    change = np.abs(pair.warp(pair.target[i + 1], i, i + 1) - pair.target[i])
    valid = np.isfinite(change)
    means.add("beat_inside", change[pair.masks[i] & valid])
    means.add("beat_ring", change[grow(pair.masks[i], 2 * pair.ring) & ~grow(pair.masks[i], pair.ring) & valid])


def _compare_with_background(pair: _GrayPair, i: int, means: _RunningMeans) -> float:
    """Compare source and target with the background of other instants; return the part of the object that remains."""
    mask, background = pair.masks[i], pair.background(i)
    near, beyond = grow(mask, pair.ring), grow(mask, 2 * pair.ring)
    seen = np.isfinite(background)
    beyond &= seen & ~near
    if beyond.any():
        background += np.median((pair.source[i] - background)[beyond])  # the exposure may have changed in between
    inside, deep = mask & seen, mask & ~grow(~seen, 2)
    was, now = (np.nan_to_num(clip[i] - background) for clip in (pair.source, pair.target))
    means.add("fill", np.abs(now)[inside])
    means.add("object", np.abs(was)[inside])
    means.add("floor", np.abs(was)[beyond])
    fine = np.abs(cv2.Laplacian(pair.target[i], cv2.CV_32F))
    means.add("detail_inside", fine[mask])
    means.add("detail_ring", fine[near & ~mask])
    means.add("detail_fill", fine[deep])
    means.add("detail_true", np.abs(cv2.Laplacian(np.nan_to_num(background), cv2.CV_32F))[deep])
    means.add("spill", np.abs(pair.source[i] - pair.target[i])[~grow(mask, 3 * pair.ring)])

    shaded = np.abs(cv2.GaussianBlur(now, (0, 0), 2)) > SHADE
    rate = float(shaded[beyond].mean()) if beyond.any() else 0.0
    around = shaded[near & seen & ~grow(mask, 1)]
    means.add("shade", np.array([max(0.0, float(around.sum()) - rate * around.size) / float(mask.sum())]))
    if 2 * deep.sum() > mask.sum():
        return _leftover(pair.source[i], pair.target[i], np.nan_to_num(background), deep)
    return _leftover(pair.source[i], pair.target[i], None, grow(mask, 2))
