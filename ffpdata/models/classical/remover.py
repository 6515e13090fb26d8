"""Removal without a network: what the mask hides is taken from frames in which the camera saw it.

All frames are aligned to one by the camera's homographies. There, one clean plate is made of what was seen, a robust
mean over time; it is then laid back into every frame. The plate is made once, so the fill does not flicker. Only what no
frame shows is guessed, by inpainting the plate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ffpdata.core.errors import Reject
from ffpdata.media import flow, masks as masklib
from ffpdata.models.protocols import Edit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames, Image, Masks

    Matrix = NDArray[np.float64]
    Region = tuple[int, int, int, int]

_SLOTS = 7
"""Samples that are kept of each point of the plate: an odd number, so that the median is one of them."""

_BAND = 24
"""Width of the ring around the mask, in pixels of a 720p frame, in which the fill is compared with the frame."""


class TemporalFillSettings(BaseModel):
    """Settings of `TemporalFill`. Lengths are pixels of a 720p frame and scale with the clip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grow_px: int = Field(3, ge=0)
    """The mask is widened by this much: soft edges and motion blur reach past an object's outline."""
    feather_px: int = Field(5, ge=0)
    """Width of the seam in which fill and frame are blended."""
    max_unrevealed: float = Field(0.15, ge=0, le=1)
    """Largest fraction of the mask that no frame shows; above it, `unrevealed` is rejected."""
    max_warp_error: float = Field(6.0, gt=0)
    """Largest difference between fill and frame around the mask, levels of 255; above it, `misaligned` is rejected."""
    max_plate_area: float = Field(6.0, gt=1)
    """Largest plate in frame areas: a camera that wanders farther sees no common background (`camera_unstable`)."""
    min_inliers: float = Field(0.25, ge=0, le=1)
    """Smallest mean fraction of background points that follow one homography (`camera_unstable`)."""


@dataclass
class _Plate:
    """The background as one picture: uint8 (h, w, 3), whether each pixel was seen, and its place in the reference."""

    image: Image
    seen: NDArray[np.bool_]
    needed: NDArray[np.bool_]
    origin: Matrix


class TemporalFill:
    """The embedded remover: an `Inpainter` that needs no prompt.

    Facts of an edit: `unrevealed` (fraction of the mask that no frame shows and that was guessed), `warp_error` (mean
    difference between fill and frame in a ring around the mask, levels of 255), `camera_inliers` (mean fraction of
    background points that follow the camera's homography), `camera_still` (1 or 0).
    """

    version: int = 1

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = TemporalFillSettings.model_validate(spec.settings)

    def close(self) -> None:
        """Free nothing: no process and no memory is held."""

    def edit(
        self,
        frames: Frames,
        masks: Masks,
        *,
        prompt: str = "",  # noqa: ARG002
        negative: str = "",  # noqa: ARG002
        reference: Image | None = None,  # noqa: ARG002
        seed: int = 0,  # noqa: ARG002
    ) -> Edit:
        """Fill the masked pixels of every frame with the background behind them.

        Args:
            frames: uint8 (T, H, W, 3) RGB.
            masks: bool (T, H, W), True = fill.
            prompt: not used, nor are `negative`, `reference` and `seed`: nothing is imagined.

        Raises:
            Reject: `mask_empty`, `camera_unstable`, `unrevealed` or `misaligned`, with value and limit.
        """
        if not masks.any():
            raise Reject("mask_empty", "no frame has a masked pixel, nothing can be removed")
        unit = min(frames.shape[1:3]) / 720
        hidden = masklib.dilate(masks, max(1, round(self.settings.grow_px * unit)))
        path = flow.camera_path(frames, hidden)
        facts = {"camera_inliers": float(path.inliers.mean()), "camera_still": float(path.still)}
        if facts["camera_inliers"] < self.settings.min_inliers:
            detail = (
                f"{facts['camera_inliers']:.2f} of the points follow the camera, at least {self.settings.min_inliers}"
            )
            raise Reject("camera_unstable", detail, dict(facts))
        plate = self._plate(frames, hidden, path, unit, facts)
        out, unrevealed, error = self._compose(frames, hidden, path, plate, unit)
        facts |= {"unrevealed": unrevealed, "warp_error": error}
        for name, reason in (("unrevealed", "unrevealed"), ("warp_error", "misaligned")):
            limit = getattr(self.settings, f"max_{name}")
            if facts[name] > limit:
                raise Reject(reason, f"{name} is {facts[name]:.3f}, at most {limit}", dict(facts))
        return Edit(out, facts)

    def _plate(
        self, frames: Frames, hidden: Masks, path: flow.CameraPath, unit: float, facts: dict[str, float]
    ) -> _Plate:
        """Make the clean plate of all that is hidden in any frame."""
        height, width = hidden.shape[1:]
        x0, y0, x1, y1 = _region(hidden, path.to_reference, pad=round(_BAND * unit) + 4)
        limit = self.settings.max_plate_area * width * height
        if (x1 - x0) * (y1 - y0) > limit:
            detail = f"the camera sweeps {(x1 - x0) * (y1 - y0) / (width * height):.1f} frame areas, at most "
            raise Reject("camera_unstable", f"{detail}{self.settings.max_plate_area}", dict(facts))
        origin = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1.0]])
        size = x1 - x0, y1 - y0
        needed = np.zeros((size[1], size[0]), np.uint8)
        wide = masklib.dilate(hidden, max(2, round(_BAND * unit)))
        for t in range(len(frames)):
            if hidden[t].any():
                place = origin @ path.to_reference[t]
                needed |= _warp(wide[t].view(np.uint8), place, size, path.still, cv2.INTER_NEAREST)
        image, seen = _gather(frames, hidden, path, origin, needed.astype(bool))
        holes = needed.astype(bool) & ~seen
        if holes.any():
            image = _inpaint(image, holes, seen)
        return _Plate(image, seen, needed.astype(bool), origin)

    def _compose(
        self, frames: Frames, hidden: Masks, path: flow.CameraPath, plate: _Plate, unit: float
    ) -> tuple[Frames, float, float]:
        """Lay the plate into every frame; return the clip, the unrevealed fraction and the error around the mask."""
        height, width = hidden.shape[1:]
        band = max(4, round(_BAND * unit))
        soft = max(1, round(self.settings.feather_px * unit))
        out = frames.copy()
        lost, total, errors = 0, 0, []
        unseen = (plate.needed & ~plate.seen).astype(np.uint8)
        for t, (x0, y0, x1, y1) in enumerate(masklib.bounding_boxes(hidden).tolist()):
            if x1 <= x0:
                continue
            left, top = max(0, x0 - band), max(0, y0 - band)
            right, bottom = min(width, x1 + band), min(height, y1 + band)
            crop = slice(top, bottom), slice(left, right)
            size = right - left, bottom - top
            shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])
            place = shift @ np.linalg.inv(plate.origin @ path.to_reference[t])
            fill = _warp(plate.image, place, size, path.still, cv2.INTER_CUBIC)
            known = _warp(plate.needed.astype(np.uint8), place, size, path.still, cv2.INTER_NEAREST)
            mask = hidden[t][crop]
            if unseen.any():
                guessed = _warp(unseen, place, size, path.still, cv2.INTER_NEAREST)
                lost += int(guessed[mask].sum())
                known &= 1 - guessed
            total += int(mask.sum())
            frame = frames[t][crop]
            ring = ~mask & (known > 0)
            difference = frame.astype(np.int16) - fill
            if ring.any():
                errors.append(float(np.abs(difference[ring]).mean()))
            fill = np.clip(fill + _membrane(difference, ring, band), 0, 255)
            alpha = np.clip(1 - (_distance(mask) - 1) / soft, 0, 1)[..., None]
            out[t][crop] = np.rint(fill * alpha + frame * (1 - alpha)).astype(np.uint8)
        return out, lost / max(1, total), float(np.mean(errors)) if errors else 0.0


def _warp(image: NDArray, matrix: Matrix, size: tuple[int, int], whole: bool, how: int) -> NDArray:
    """Warp to `size` (width, height); where the camera stands still, by whole pixels: that loses nothing."""
    return cv2.warpPerspective(image, matrix, size, flags=cv2.INTER_NEAREST if whole else how)


def _region(hidden: Masks, paths: Matrix, pad: int) -> Region:
    """Bounding box in the reference frame of all that is hidden in any frame: x0, y0, x1, y1."""
    ends = []
    for (x0, y0, x1, y1), path in zip(masklib.bounding_boxes(hidden).tolist(), paths, strict=True):
        if x1 > x0:
            corners = np.array(
                [[[x0 - pad, y0 - pad], [x1 + pad, y0 - pad], [x1 + pad, y1 + pad], [x0 - pad, y1 + pad]]]
            )
            ends.append(cv2.perspectiveTransform(corners.astype(np.float64), path)[0])
    points = np.concatenate(ends)
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    return int(low[0]), int(low[1]), int(high[0]) + 1, int(high[1]) + 1


def _spread(count: int) -> Iterator[int]:
    """Yield 0..count-1 so that any prefix is spread over the whole range (bits reversed)."""
    bits = max(1, (count - 1).bit_length())
    for i in range(1 << bits):
        index = int(f"{i:0{bits}b}"[::-1], 2)
        if index < count:
            yield index


def _gather(
    frames: Frames, hidden: Masks, path: flow.CameraPath, origin: Matrix, needed: NDArray[np.bool_]
) -> tuple[Image, NDArray[np.bool_]]:
    """Collect samples of every needed pixel from frames in which it is visible, and take their robust mean."""
    height, width = needed.shape
    count = np.zeros((height, width), np.uint8)
    slots = np.zeros((_SLOTS, height * width, 3), np.uint8)
    inside = np.zeros(hidden.shape[1:], np.uint8)
    inside[1:-1, 1:-1] = 1
    open_ = needed.astype(np.uint8)
    for t in _spread(len(frames)):
        x, y, w, h = cv2.boundingRect(open_)
        if not w:
            break
        part = slice(y, y + h), slice(x, x + w)
        place = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1.0]]) @ origin @ path.to_reference[t]
        visible = _warp(inside & ~hidden[t].view(np.uint8), place, (w, h), path.still, cv2.INTER_NEAREST)
        rows, columns = np.nonzero(visible & open_[part])
        if not len(rows):
            continue
        sample = _warp(frames[t], place, (w, h), path.still, cv2.INTER_CUBIC)[rows, columns]
        rows, columns = rows + y, columns + x
        have = count[rows, columns]
        if path.still is False or t:
            sample = _same_exposure(sample, slots, rows * width + columns, have)
        slots[have, rows * width + columns] = sample
        count[rows, columns] = have + 1
        open_[rows, columns] = have + 1 < _SLOTS
    seen = count > 0
    image = _robust_mean(slots.reshape(_SLOTS, height, width, 3), count)
    return image, seen


def _same_exposure(sample: Image, slots: NDArray[np.uint8], index: NDArray, have: NDArray) -> Image:
    """Scale new samples (N, 3) so that they are as bright as the samples that their pixels already have."""
    both = np.flatnonzero(have)[::7]
    if len(both) < 500:
        return sample
    old = slots[0, index[both]].astype(np.float32)
    new = sample[both].astype(np.float32)
    fine = (old > 12) & (old < 243) & (new > 12) & (new < 243)
    gain = np.array([np.median(old[f, c] / new[f, c]) if f.sum() > 200 else 1.0 for c, f in enumerate(fine.T)])
    if np.abs(gain - 1).max() < 0.004 or np.abs(gain - 1).max() > 0.3:
        return sample
    return np.clip(sample * gain.astype(np.float32) + 0.5, 0, 255).astype(np.uint8)


def _robust_mean(slots: NDArray[np.uint8], count: NDArray[np.uint8], tolerance: int = 14) -> Image:
    """Average the samples (K, h, w, 3) of each pixel that lie within `tolerance` levels of their median."""
    ordered = slots.copy()
    for k in range(_SLOTS):  # empty slots are low and high in turn, so that they leave the median where it is
        empty = count <= k
        ordered[k][empty] = (np.where((k - count[empty].astype(np.int16)) % 2, 255, 0).astype(np.uint8))[:, None]
    for end in range(_SLOTS - 1, _SLOTS // 2 - 1, -1):
        for k in range(end):
            low = np.minimum(ordered[k], ordered[k + 1])
            np.maximum(ordered[k], ordered[k + 1], out=ordered[k + 1])
            ordered[k] = low
    median = ordered[_SLOTS // 2]
    total = np.zeros(median.shape, np.uint16)
    number = np.zeros(median.shape[:2], np.uint16)
    for k in range(_SLOTS):
        near = (cv2.absdiff(slots[k], median).max(axis=2) <= tolerance) & (count > k)
        total[near] += slots[k][near]
        number += near
    return np.where(
        number[..., None] > 0, (total + number[..., None] // 2) // np.maximum(number, 1)[..., None], median
    ).astype(np.uint8)


def _inpaint(image: Image, holes: NDArray[np.bool_], seen: NDArray[np.bool_]) -> Image:
    """Guess what no frame shows: Telea at a quarter of the size, for a smooth whole, then at the seams."""
    x, y, w, h = cv2.boundingRect(holes.view(np.uint8))
    pad = 24
    part = slice(max(0, y - pad), y + h + pad), slice(max(0, x - pad), x + w + pad)
    crop, missing = np.ascontiguousarray(image[part]), (~seen[part]).astype(np.uint8)
    scale = 4 if missing.sum() > 4000 else 1
    size = max(1, crop.shape[1] // scale), max(1, crop.shape[0] // scale)
    weight = cv2.resize(1 - missing.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    colour = cv2.resize(crop * (1 - missing[..., None]).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    known = np.clip(colour / np.maximum(weight, 1e-3)[..., None], 0, 255).astype(np.uint8)
    filled = cv2.inpaint(known, (weight < 0.25).astype(np.uint8), 4, cv2.INPAINT_TELEA)
    filled = cv2.resize(filled, crop.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    out = image.copy()
    out[part] = np.where(missing[..., None] > 0, filled, crop)
    return out


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance in pixels to the nearest masked pixel, float32 (h, w)."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)


def _membrane(difference: NDArray[np.int16], ring: NDArray[np.bool_], band: int) -> NDArray[np.float32]:
    """Continue the slow part of the difference between frame and fill into the mask, float32 (h, w, 3).

    It takes up what exposure and drifting light change. Large differences are something else than light: another object
    in the ring, or a shadow, and do not count.
    """
    height, width = ring.shape
    size = max(1, width // 4), max(1, height // 4)
    light = np.abs(difference).max(axis=2) < 24
    weight = cv2.resize((ring & light).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    slow = cv2.resize(difference * (ring & light)[..., None].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    sigma = max(1.0, band / 4)
    weight, slow = cv2.GaussianBlur(weight, (0, 0), sigma), cv2.GaussianBlur(slow, (0, 0), sigma)
    slow = slow / (weight + 0.02)[..., None]
    return cv2.resize(slow, (width, height), interpolation=cv2.INTER_LINEAR)
