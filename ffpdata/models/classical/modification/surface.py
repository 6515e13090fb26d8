"""Coordinates on an object's surface that move with it, by optical flow: what is painted on them sticks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media.flow import dense_flow, pixel_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Masks = NDArray[np.bool_]
    Plane = NDArray[np.float32]

SIDE = 480
"""Long side, in pixels, of the copy on which motion is estimated."""
_SMOOTH = 0.12
"""Radius, of the object's size, over which coordinates bend together."""
_LEAST = 12
"""Fewest pixels from which a motion can be fitted."""
_AROUND, _LEAST_SIDE = 16, 16
"""Margin around the object within which flow is estimated, and the smallest side of a picture that has one, pixels."""


class Surface:
    """Coordinates of a masked object over a clip.

    They are 0 at the object's centre in the frame that shows most of it, and 1 apart at its size, the square root of
    its area there. From frame to frame flow carries them; what is seen for the first time continues its surroundings.
    """

    def __init__(self, frames: Frames, masks: Masks) -> None:
        """Take a clip, uint8 (T, H, W, 3), and masks, bool (T, H, W), at least one of them not empty."""
        height, width = masks.shape[1:]
        self._scale = min(1.0, SIDE / max(height, width))
        small = (max(8, round(width * self._scale)), max(8, round(height * self._scale)))
        self._size = (height, width)
        self._grey = [
            cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), small, interpolation=cv2.INTER_AREA) for f in frames
        ]
        self._masks = [cv2.resize(m.astype(np.uint8), small, interpolation=cv2.INTER_AREA) > 0 for m in masks]
        areas = [int(m.sum()) for m in self._masks]
        self.anchor = int(np.argmax(areas))
        self._object = max(4.0, float(np.sqrt(areas[self.anchor])))
        grid = pixel_grid(small[1], small[0])
        centre = grid[self._masks[self.anchor]].mean(axis=0)
        self._planes: dict[int, Plane] = {self.anchor: ((grid - centre) / self._object).astype(np.float32)}
        for step in (1, -1):
            for t in self._way(step):
                self._planes[t] = self._carried(t, t - step)

    def _way(self, step: int) -> Iterator[int]:
        yield from range(self.anchor + step, len(self._grey) if step > 0 else -1, step)

    def at(self, t: int, area: tuple[slice, slice]) -> Plane:
        """Return the coordinates of the pixels of `area` in frame `t`, float32 (h, w, 2), x before y."""
        rows, columns = area
        ys, xs = (
            (np.arange(part.start, part.stop, dtype=np.float32) + 0.5) * plane / full - 0.5
            for part, plane, full in zip((rows, columns), self._planes[t].shape[:2], self._size, strict=True)
        )
        return cv2.remap(self._planes[t], *np.meshgrid(xs, ys), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _carried(self, t: int, known: int) -> Plane:
        """Carry the coordinates of frame `known` to its neighbour `t`."""
        plane, here, there = self._planes[known], self._masks[t], self._masks[known]
        if here.sum() < _LEAST or there.sum() < _LEAST:
            return plane
        grid = pixel_grid(*here.shape)
        # A fast object is brought to the same place first, and only its surroundings matter to the flow.
        shift = np.rint(grid[there].mean(axis=0) - grid[here].mean(axis=0)).astype(np.float32)
        x, y, w, h = cv2.boundingRect(here.astype(np.uint8))
        box = np.s_[max(0, y - _AROUND) : y + h + _AROUND, max(0, x - _AROUND) : x + w + _AROUND]
        flow = np.zeros((*here.shape, 2), np.float32)
        if min(self._grey[t][box].shape) >= _LEAST_SIDE:
            beside = cv2.remap(
                self._grey[known], grid[box] + shift, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            flow[box] = dense_flow(np.ascontiguousarray(self._grey[t][box]), beside)
        source = (grid + flow + shift).astype(np.float32)
        moved = cv2.remap(plane, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        seen = here & (cv2.remap(there.astype(np.uint8), source, None, cv2.INTER_NEAREST) > 0)
        if seen.sum() < _LEAST:
            return plane
        fitted = _fit(grid, moved, seen)
        # The bend: what flow says beyond a shift, a turn and a scale, smoothed over the surface that was seen.
        sigma = max(1.0, _SMOOTH * self._object)
        weight = cv2.GaussianBlur(seen.astype(np.float32), (0, 0), sigma)
        bend = cv2.GaussianBlur(np.where(seen[..., None], moved - fitted, 0).astype(np.float32), (0, 0), sigma)
        out: Plane = fitted + bend / (weight + 0.05)[..., None]
        return out


def _fit(grid: Plane, values: Plane, where: NDArray[np.bool_]) -> Plane:
    """Fit an affine map of `values`, (h, w, 2), over the pixels `where` and return it everywhere; robust to a few."""
    points, goal = grid[where], values[where]
    keep = np.ones(len(points), bool)
    terms = np.column_stack([points, np.ones(len(points), np.float32)])
    factors = np.zeros((3, 2), np.float32)
    for _ in range(3):
        factors = np.linalg.lstsq(terms[keep], goal[keep], rcond=None)[0]
        miss = np.linalg.norm(terms @ factors - goal, axis=1)
        keep = miss <= 2.5 * max(float(np.median(miss)), 1e-3)
    out: Plane = (grid @ factors[:2] + factors[2]).astype(np.float32)
    return out
