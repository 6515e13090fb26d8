"""The clean plate: one picture of the background, made of what a clip shows of it while an object passes.

Samples of every frame are brought to the reference frame of a camera path. What is hidden in one frame is seen in
others; a robust mean over time leaves out what does not belong to the background.
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
"""Samples that are kept of each point of the plate: an odd number, so that the median is one of them."""

_NEAR_SLOTS = 3
"""Samples for a plate of a run of frames: more would let a time outvote it that looked different."""

_TOLERANCE = 14
"""Samples farther than this from the median, in levels of 255, do not belong to the background."""


@dataclass
class Plate:
    """The background of a clip in the coordinates of a region of the reference frame.

    Attributes:
        image: uint8 (h, w, 3) RGB.
        seen: bool (h, w), whether any frame shows the pixel; the others are guessed, or black.
        needed: bool (h, w), the pixels that were asked for.
        origin: float64 (3, 3), from pixels of the reference frame to pixels of the plate.
        path: the camera's path.
    """

    image: Image
    seen: Plane
    needed: Plane
    origin: Matrix
    path: CameraPath

    def view(self, t: int, left: int, top: int, size: tuple[int, int]) -> tuple[Image, Plane, Plane]:
        """Lay the plate over a window of frame `t` with its top left corner at (`left`, `top`).

        Returns:
            The picture, uint8 (h, w, 3); where it is one that a frame shows; and where it is guessed: bool (h, w) each.
        """
        place = translation(-left, -top) @ np.linalg.inv(self.origin @ self.path.to_reference[t])
        picture = warp(self.image, place, size, whole=self.path.still)
        state = warp(self.needed.astype(np.uint8) + self.seen, place, size, whole=True)
        return picture, state == 2, state == 1


def strongest(image: NDArray[Any]) -> NDArray[Any]:
    """Largest of the three channels of each pixel, (h, w)."""
    red, green, blue = cv2.split(image)
    return cv2.max(cv2.max(red, green), blue)


def translation(x: float, y: float) -> Matrix:
    """Homography that moves by (x, y)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def warp(image: NDArray[Any], matrix: Matrix, size: tuple[int, int], *, whole: bool = False) -> NDArray[Any]:
    """Warp to `size` (width, height), cubic; `whole` takes the nearest pixel, for masks and still cameras."""
    return cv2.warpPerspective(image, matrix, size, flags=cv2.INTER_NEAREST if whole else cv2.INTER_CUBIC)


def region(hidden: Masks, paths: Matrix, pad: int) -> tuple[int, int, int, int]:
    """Bounding box in the reference frame of all that is hidden in any frame, and `pad` around it: x0, y0, x1, y1."""
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
    """Make the plate of what is hidden in any frame and of a band around it.

    Args:
        frames: uint8 (T, H, W, 3) RGB.
        hidden: bool (T, H, W), what does not show the background.
        path: the camera's path.
        box: the plate's place in the reference frame, from `region`.
        band: how far around the hidden pixels the plate is needed, pixels.
        run: make it for these frames only, from what is seen nearest to them in time; for all frames, from samples
            spread over the whole clip, where None.
    """
    origin = translation(-box[0], -box[1])
    size = box[2] - box[0], box[3] - box[1]
    needed = np.zeros((size[1], size[0]), np.uint8)
    for t in run or range(len(frames)):
        mask = masklib.dilate(hidden[t : t + 1], band)[0]
        if mask.any():
            needed |= warp(mask.view(np.uint8), origin @ path.to_reference[t], size, whole=True)
    order, most = (_spread(len(frames)), SLOTS) if run is None else (_outwards(run, len(frames)), _NEAR_SLOTS)
    image, seen = _gather(frames, hidden, path=path, origin=origin, needed=needed, order=order, most=most)
    return Plate(image, seen, needed > 0, origin, path)


def _spread(count: int) -> Iterator[int]:
    """Yield 0..count-1 so that any prefix is spread over the whole range (bits reversed)."""
    bits = max(1, (count - 1).bit_length())
    for i in range(1 << bits):
        index = int(f"{i:0{bits}b}"[::-1], 2)
        if index < count:
            yield index


def _outwards(run: range, count: int) -> list[int]:
    """Order all frames by their distance from a run of frames; every second first, so that samples span some time."""
    near = max(2, count // 10)

    def rank(t: int) -> tuple[int, int, int]:
        return max(run[0] - t, t - run[-1], 0) // near, t % 2, abs(2 * t - run[0] - run[-1])

    return sorted(range(count), key=rank)


def _gather(
    frames: Frames,
    hidden: Masks,
    *,
    path: CameraPath,
    origin: Matrix,
    needed: NDArray[np.uint8],
    order: Iterable[int],
    most: int,
) -> tuple[Image, Plane]:
    """Collect samples of every needed pixel from frames in which it is visible, and take their robust mean."""
    height, width = needed.shape
    count = np.zeros((height, width), np.uint8)
    slots = np.zeros((SLOTS, height * width, 3), np.uint8)
    inside = np.full(hidden.shape[1:], path.still, np.uint8)
    inside[1:-1, 1:-1] = 1  # warps blend the outermost pixels with what lies outside
    wanted = needed.copy()
    for t in order:
        x, y, w, h = cv2.boundingRect(wanted)
        if not w:
            break
        place = translation(-x, -y) @ origin @ path.to_reference[t]
        visible = warp(inside & ~hidden[t].view(np.uint8), place, (w, h), whole=True)
        rows, columns = np.nonzero(visible & wanted[y : y + h, x : x + w])
        if not len(rows):
            continue
        sample = warp(frames[t], place, (w, h), whole=path.still)[rows, columns]
        rows, columns = rows + y, columns + x
        index, have = rows * width + columns, count[rows, columns]
        slots[have, index] = _same_exposure(sample, slots[0, index], have)
        count[rows, columns] = have + 1
        wanted[rows, columns] = have + 1 < most
    return _robust_mean(slots.reshape(SLOTS, height, width, 3), count), count > 0


def _same_exposure(sample: NDArray[np.uint8], old: NDArray[np.uint8], have: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale new samples (N, 3) so that they are as bright as the `old` ones of the pixels that `have` any."""
    both = np.flatnonzero(have)[::7]
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
    if change < 0.004 or change > 0.3:  # nothing to do, or more than a camera's exposure drifts
        return sample
    return np.clip(sample * gain + np.float32(0.5), 0, 255).astype(np.uint8)


def _robust_mean(slots: NDArray[np.uint8], count: NDArray[np.uint8]) -> Image:
    """Average the samples (K, h, w, 3) of each pixel that lie near their median."""
    ordered = slots.copy()
    for k in range(SLOTS):  # empty slots are low and high in turn, so that they leave the median where it is
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
        near = (strongest(cv2.absdiff(slots[k], median)) <= _TOLERANCE) & (count > k)
        total += slots[k] * near[..., None]
        number += near[..., None]
    some = np.maximum(number, 1)
    return np.where(number > 0, (total + some // 2) // some, median).astype(np.uint8)
