"""The clean plate: one picture of the background, composed from a clip in which an object passes in front of it.

Samples of every frame are warped to the reference frame of a camera path. Pixels hidden in one frame are visible in
others; a robust mean over time excludes samples that are not background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata.media import masks as masklib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from ffpdata.media.flow import CameraPath
    from ffpdata.models.protocols import Frames, Image, Masks

    Matrix = NDArray[np.float64]
    Plane = NDArray[np.bool_]

SLOTS = 7
"""Samples per pixel of the plate: an odd number, so that the median is one of them."""

_NEAR_SLOTS = 3
"""Samples per pixel of a plate for a run of frames: few, so that they come from times near the run."""

_TOLERANCE = 14
"""Samples farther than this from the median, in levels of 255, are not background."""


@dataclass
class Plate:
    """The background of a clip in the coordinates of a region of the reference frame.

    Attributes:
        image: uint8 (h, w, 3) RGB.
        revealed: bool (h, w), whether any frame shows the pixel; the others are inpainted, or black.
        needed: bool (h, w), the pixels that some frame needs.
        origin: float64 (3, 3), maps pixels of the reference frame to pixels of the plate.
        path: the camera's path.
    """

    image: Image
    revealed: Plane
    needed: Plane
    origin: Matrix
    path: CameraPath

    def view(self, t: int, left: int, top: int, size: tuple[int, int]) -> tuple[Image, Plane, Plane]:
        """Warp the plate onto a window of frame `t` with its top left corner at (`left`, `top`).

        Returns:
            The background, uint8 (h, w, 3); where a frame reveals it; and where it is inpainted: bool (h, w) each.
        """
        place = translation(-left, -top) @ np.linalg.inv(self.origin @ self.path.to_reference[t])
        picture = warp(self.image, place, size, nearest=self.path.still)
        state = warp(self.needed.astype(np.uint8) + self.revealed, place, size, nearest=True)
        return picture, state == 2, state == 1


def max_channel(image: NDArray[Any]) -> NDArray[Any]:
    """Return the largest of the three channels of each pixel, (h, w)."""
    red, green, blue = cv2.split(image)
    return cv2.max(cv2.max(red, green), blue)


def translation(x: float, y: float) -> Matrix:
    """Return the homography that moves by (x, y) pixels, float64 (3, 3)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def warp(image: NDArray[Any], matrix: Matrix, size: tuple[int, int], *, nearest: bool = False) -> NDArray[Any]:
    """Warp to `size` (width, height), bicubic; `nearest` by nearest neighbour, for masks and still cameras."""
    return cv2.warpPerspective(image, matrix, size, flags=cv2.INTER_NEAREST if nearest else cv2.INTER_CUBIC)


def plate_box(hidden: Masks, paths: Matrix, pad: int) -> tuple[int, int, int, int]:
    """Return the bounding box x0, y0, x1, y1, in the reference frame, of all hidden pixels, plus `pad` pixels."""
    ends = []
    for (x0, y0, x1, y1), path in zip(masklib.bounding_boxes(hidden).tolist(), paths, strict=True):
        if x1 > x0:
            left, top, right, bottom = x0 - pad, y0 - pad, x1 + pad, y1 + pad
            corners = np.array([[[left, top], [right, top], [right, bottom], [left, bottom]]], np.float64)
            ends.append(cv2.perspectiveTransform(corners, path)[0])
    points = np.concatenate(ends)
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    return int(low[0]), int(low[1]), int(high[0]) + 1, int(high[1]) + 1


def clean_plate(
    frames: Frames,
    hidden: Masks,
    path: CameraPath,
    box: tuple[int, int, int, int],
    band: int,
    *,
    run: range | None = None,
) -> Plate:
    """Make the plate behind all hidden pixels and a band around them.

    Args:
        frames: uint8 (T, H, W, 3) RGB.
        hidden: bool (T, H, W), pixels that do not show the background.
        path: the camera's path.
        box: the plate's region of the reference frame, from `plate_box`.
        band: width of the band around the hidden pixels, pixels.
        run: frames that the plate is made for, from samples nearest in time; None for all frames, from samples spread
            over the whole clip.
    """
    origin = translation(-box[0], -box[1])
    size = box[2] - box[0], box[3] - box[1]
    needed = np.zeros((size[1], size[0]), np.uint8)
    for t in run or range(len(frames)):
        mask = masklib.dilate(hidden[t : t + 1], band)[0]
        if mask.any():
            needed |= warp(mask.view(np.uint8), origin @ path.to_reference[t], size, nearest=True)
    order, max_samples = (
        (_bit_reversed(len(frames)), SLOTS) if run is None else (_nearest_first(run, len(frames)), _NEAR_SLOTS)
    )
    image, revealed = _collect_samples(
        frames, hidden, path=path, origin=origin, needed=needed, order=order, max_samples=max_samples
    )
    return Plate(image, revealed, needed > 0, origin, path)


def _bit_reversed(count: int) -> Iterator[int]:
    """Yield 0..count-1 in bit-reversed order, so that every prefix is spread over the whole range."""
    bits = max(1, (count - 1).bit_length())
    for i in range(1 << bits):
        index = int(f"{i:0{bits}b}"[::-1], 2)
        if index < count:
            yield index


def _nearest_first(run: range, count: int) -> list[int]:
    """Order all frames by their distance from a run; every second frame first, so that samples span more time."""
    near = max(2, count // 10)

    def rank(t: int) -> tuple[int, int, int]:
        return max(run[0] - t, t - run[-1], 0) // near, t % 2, abs(2 * t - run[0] - run[-1])

    return sorted(range(count), key=rank)


def _collect_samples(
    frames: Frames,
    hidden: Masks,
    *,
    path: CameraPath,
    origin: Matrix,
    needed: NDArray[np.uint8],
    order: Iterable[int],
    max_samples: int,
) -> tuple[Image, Plane]:
    """Sample every needed pixel in frames that show it; return the robust means, and where there are samples."""
    height, width = needed.shape
    count = np.zeros((height, width), np.uint8)
    slots = np.zeros((SLOTS, height * width, 3), np.uint8)
    inside = np.full(hidden.shape[1:], path.still, np.uint8)
    inside[1:-1, 1:-1] = 1  # warps blend the outermost pixels with what lies outside
    missing = needed.copy()
    for t in order:
        x, y, w, h = cv2.boundingRect(missing)
        if not w:
            break
        place = translation(-x, -y) @ origin @ path.to_reference[t]
        visible = warp(inside & ~hidden[t].view(np.uint8), place, (w, h), nearest=True)
        rows, columns = np.nonzero(visible & missing[y : y + h, x : x + w])
        if not len(rows):
            continue
        sample = warp(frames[t], place, (w, h), nearest=path.still)[rows, columns]
        rows, columns = rows + y, columns + x
        index, sample_counts = rows * width + columns, count[rows, columns]
        slots[sample_counts, index] = _same_exposure(sample, slots[0, index], sample_counts)
        count[rows, columns] = sample_counts + 1
        missing[rows, columns] = sample_counts + 1 < max_samples
    return _robust_mean(slots.reshape(SLOTS, height, width, 3), count), count > 0


def _same_exposure(
    sample: NDArray[np.uint8], old: NDArray[np.uint8], sample_counts: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Scale new samples (N, 3) to the brightness of the `old` samples of the same pixels, where `sample_counts` > 0."""
    both = np.flatnonzero(sample_counts)[::7]
    if len(both) < 500:
        return sample
    before, after = old[both].astype(np.float32), sample[both].astype(np.float32)
    fine = (before > 12) & (before < 243) & (after > 12) & (after < 243)
    gain = np.ones(3, np.float32)
    for channel in range(3):
        use = fine[:, channel]
        if use.sum() > 200:
            gain[channel] = np.median(before[use, channel] / after[use, channel])
    change = np.abs(gain - 1).max()
    if change < 0.004 or change > 0.3:  # negligible, or more than a camera's exposure drifts
        return sample
    return np.clip(sample * gain + np.float32(0.5), 0, 255).astype(np.uint8)


def _robust_mean(slots: NDArray[np.uint8], count: NDArray[np.uint8]) -> Image:
    """Return the mean, uint8 (h, w, 3), of those samples (K, h, w, 3) of each pixel that are near their median."""
    ordered = slots.copy()
    for k in range(SLOTS):  # empty slots alternate low and high and so do not move the median
        empty = count <= k
        ordered[k][empty] = (255 * ((k - count[empty].astype(np.int16)) % 2)).astype(np.uint8)[:, None]
    for end in range(SLOTS - 1, SLOTS // 2 - 1, -1):
        for k in range(end):
            low = np.minimum(ordered[k], ordered[k + 1])
            np.maximum(ordered[k], ordered[k + 1], out=ordered[k + 1])
            ordered[k] = low
    median = ordered[SLOTS // 2]
    total = np.zeros(median.shape, np.uint16)
    number = np.zeros((*median.shape[:2], 1), np.uint16)
    for k in range(SLOTS):
        near = (max_channel(cv2.absdiff(slots[k], median)) <= _TOLERANCE) & (count > k)
        total += slots[k] * near[..., None]
        number += near[..., None]
    some = np.maximum(number, 1)
    return np.where(number > 0, (total + some // 2) // some, median).astype(np.uint8)
