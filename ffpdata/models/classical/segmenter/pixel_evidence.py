"""Evidence for the object at each pixel: motion relative to the camera, difference from the clean plate, colours.

All of it is measured on a small copy of the clip (`WIDTH` pixels on the long side).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media import flow
from ffpdata.media import masks as masklib
from ffpdata.models.classical.clean_plate import clean_plate, max_channel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.protocols import Frames, Image, Masks

    Plane = NDArray[np.float32]

WIDTH = 640
"""Long side of the small copy: outlines are accurate to about a pixel of 720p, at a quarter of the time."""

_DEEPEST_SHADOW = 0.62
"""Pixels darker than this share of the background are object, not shadow."""

_SPECK = 24
"""Components of fewer pixels are noise."""

_BINS = 16
"""Bins of a colour histogram along each Lab axis."""


def small_copy(frames: Frames) -> Frames:
    """Shrink a clip, uint8 (T, H, W, 3), to `WIDTH` on its long side; smaller clips are returned as they are."""
    height, width = frames.shape[1:3]
    scale = WIDTH / max(height, width)
    if scale >= 1:
        return frames
    size = round(width * scale), round(height * scale)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def enlarge(masks: Masks, size: tuple[int, int]) -> Masks:
    """Resize small masks to `size` (height, width) with smooth outlines."""
    if masks.shape[1:] == size:
        return masks
    out = np.zeros((len(masks), *size), np.bool_)
    for small, large in zip(masks, out, strict=True):
        if small.any():
            soft = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 0.8)
            large[:] = cv2.resize(soft, size[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
    return out


def scale_path(path: flow.CameraPath, scale: float) -> flow.CameraPath:
    """Return the path in pixels of a copy that is `scale` times as large."""
    size = np.diag([scale, scale, 1.0])
    matrices = size @ path.to_reference @ np.linalg.inv(size)
    return flow.CameraPath(matrices / matrices[:, 2:, 2:], path.reference, path.inliers, path.still)


class Flows:
    """Flow between frames of a clip, computed at first use and cached as float16 (h, w, 2)."""

    def __init__(self, clip: Frames) -> None:
        self.grays = [flow.gray(frame) for frame in clip]
        self._flows: dict[tuple[int, int], NDArray[np.float16]] = {}

    def warp(self, plane: Plane, source: int, target: int) -> Plane:
        """Warp planes of numbers (h, w[, n]) of frame `source` along the flow to frame `target`."""
        return flow.backward_warp(plane, self._motion(source, target))

    def warp_mask(self, mask: NDArray[np.bool_], source: int, target: int) -> NDArray[np.bool_]:
        """Warp a mask (h, w) of frame `source` along the flow to frame `target`."""
        return flow.backward_warp(mask.astype(np.uint8) * np.uint8(255), self._motion(source, target)) > 127

    def _motion(self, source: int, target: int) -> flow.Flow:
        if (target, source) not in self._flows:
            motion = flow.dense_flow(self.grays[target], self.grays[source])
            self._flows[target, source] = motion.astype(np.float16)
        return self._flows[target, source].astype(np.float32)


def residual_motion(flows: Flows, path: flow.CameraPath, step: int = 2) -> NDArray[np.float16]:
    """Return the speed of each pixel relative to the camera.

    Args:
        flows: the clip.
        path: the camera's path in the clip's pixels.
        step: distance to the frame that each is compared with; near the end, an earlier frame.

    Returns:
        float16 (T, h, w), pixels per `step` frames; 0 outside the other frame.
    """
    grays = flows.grays
    count, (height, width) = len(grays), grays[0].shape
    out = np.zeros((count, height, width), np.float16)
    for t in range(count):
        other = t + step if t + step < count else max(0, t - step)
        if other == t:
            continue
        place = np.linalg.inv(path.to_reference[t]) @ path.to_reference[other]
        warped = cv2.warpPerspective(grays[other], place, (width, height), borderMode=cv2.BORDER_REPLICATE)
        speed = np.linalg.norm(flow.dense_flow(grays[t], warped), axis=2)
        if not path.still:
            visible = cv2.warpPerspective(np.ones((height, width), np.uint8), place, (width, height))
            speed *= cv2.erode(visible, np.ones((9, 9), np.uint8), borderValue=1)
        out[t] = cv2.GaussianBlur(speed, (0, 0), 1.0)
    return out


@dataclass
class ClipEvidence:
    """The small copy of a clip, and what is measured on it before an object is chosen.

    Attributes:
        clip: uint8 (T, h, w, 3), the small copy.
        path: the camera's path in its pixels.
        flows: flow between its frames.
        slowest: motion below this never counts as moving.
    """

    clip: Frames
    path: flow.CameraPath
    flows: Flows
    slowest: float

    @classmethod
    def of(cls, frames: Frames, path: flow.CameraPath, slowest: float) -> ClipEvidence:
        """Measure a clip, uint8 (T, H, W, 3); `path` is its camera path in full-size pixels."""
        clip = small_copy(frames)
        return cls(clip, scale_path(path, clip.shape[2] / frames.shape[2]), Flows(clip), slowest)

    @cached_property
    def motion(self) -> NDArray[np.float16]:
        """Motion relative to the camera, float16 (T, h, w), measured at first use."""
        return residual_motion(self.flows, self.path)

    @cached_property
    def level(self) -> float:
        """Motion from which a pixel counts as moving."""
        return max(self.slowest, min(otsu_level(self.motion, 8.0), 3.0))


def otsu_level(values: NDArray[np.floating], top: float) -> float:
    """Return Otsu's threshold of `values`, clipped to 0..`top`."""
    values = values.reshape(-1)[:: max(1, values.size // 400_000)]
    scaled_values = np.clip(values.astype(np.float32) * (255 / top), 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(scaled_values.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(level) * top / 255


@dataclass
class PlateDifference:
    """Distance of every pixel from the clean plate.

    Attributes:
        levels: uint8 (T, h, w), levels of 255 by which a pixel is outside the plate's range in its 3 x 3 neighbourhood.
        known: bool (T, h, w), where the plate is revealed.
    """

    levels: NDArray[np.uint8]
    known: NDArray[np.bool_]

    @classmethod
    def unknown(cls, shape: tuple[int, ...]) -> PlateDifference:
        """Return the difference of a clip of `shape` (T, h, w) without any known plate."""
        return cls(np.zeros(shape, np.uint8), np.zeros(shape, np.bool_))

    def components(self) -> Masks:
        """Return where frames differ from the plate, bool (T, h, w), without specks and with gaps closed."""
        known = self.known[:, ::3, ::3]
        high_level = float(np.quantile(self.levels[:, ::3, ::3][known], 0.9)) if known.any() else 0.0
        level = float(np.clip(7 + 3 * high_level, 8, 24))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
        out = np.zeros_like(self.known)
        for levels, where, plane in zip(self.levels, self.known, out, strict=True):
            raw = ((levels > level) & where).view(np.uint8)
            _, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.morphologyEx(raw, cv2.MORPH_CLOSE, disc))
            real = stats[:, cv2.CC_STAT_AREA] >= _SPECK
            real[0] = False
            plane[:] = real[labels]
        return out


def moving_difference(evidence: ClipEvidence) -> PlateDifference:
    """Compare each frame with the background of the others; whatever moves against the camera is no background."""
    reach = max(2, evidence.clip.shape[2] // 80)
    hidden = masklib.dilate(_remove_specks(evidence.motion > evidence.level, reach // 2), reach)
    return plate_difference(evidence.clip, hidden, evidence.path)


def _remove_specks(masks: Masks, px: int) -> Masks:
    """Remove specks of up to `px` pixels' radius."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * px + 1, 2 * px + 1))
    return np.stack([cv2.morphologyEx(m.view(np.uint8), cv2.MORPH_OPEN, kernel).astype(bool) for m in masks])


def plate_difference(clip: Frames, hidden: Masks, path: flow.CameraPath) -> PlateDifference:
    """Compare each frame with the background of the others.

    Args:
        clip: uint8 (T, h, w, 3).
        hidden: bool (T, h, w), pixels that may show the object; they are excluded from the plate.
        path: the camera's path in the clip's pixels.
    """
    height, width = clip.shape[1:3]
    corners = np.array([[[0, 0], [width, 0], [width, height], [0, height]]], np.float64)
    ends = np.concatenate([cv2.perspectiveTransform(corners, m)[0] for m in path.to_reference])
    low = np.maximum(np.floor(ends.min(axis=0)), -3 * max(width, height))
    high = np.minimum(np.ceil(ends.max(axis=0)), 4 * max(width, height))
    box = int(low[0]), int(low[1]), int(high[0]), int(high[1])
    plate = clean_plate(clip, hidden, path, box, max(height, width))
    levels = np.zeros(clip.shape[:3], np.uint8)
    known = np.zeros(clip.shape[:3], np.bool_)
    around = np.ones((3, 3), np.uint8)
    for t, frame in enumerate(clip):
        picture, seen, _ = plate.view(t, 0, 0, (width, height))
        over = cv2.subtract(frame, cv2.dilate(picture, around))
        under = cv2.subtract(cv2.erode(picture, around), frame)
        level = max_channel(cv2.max(over, under))
        level[_shaded(frame, picture)] //= 3
        levels[t] = cv2.blur(level, (3, 3))
        known[t] = seen
    return PlateDifference(levels, known)


def _shaded(frame: Image, picture: Image) -> NDArray[np.bool_]:
    """Return where a frame is the plate darkened evenly, as by a soft shadow: bool (h, w)."""
    smooth_frame = cv2.blur(frame, (3, 3)).astype(np.float32)
    smooth_plate = cv2.blur(picture, (3, 3)).astype(np.float32)
    ones = np.ones((1, 3), np.float32)
    dark = cv2.divide(
        cv2.transform(cv2.multiply(smooth_frame, smooth_plate), ones),
        cv2.transform(cv2.multiply(smooth_plate, smooth_plate), ones) + 1,
    )
    off = max_channel(cv2.absdiff(smooth_frame, cv2.multiply(smooth_plate, cv2.merge([dark, dark, dark]))))
    # A shadow is soft: thin dark objects, as a leg, differ from their surroundings.
    rough = cv2.absdiff(dark, cv2.blur(dark, (11, 11)))
    return (dark > _DEEPEST_SHADOW) & (dark < 0.99) & (off < 6) & (rough < 0.07)


@dataclass
class Colours:
    """Log-likelihood ratio of object to surroundings for every colour."""

    ratio: Plane

    @classmethod
    def learn(cls, clip: Frames, inside: Masks, outside: Masks, frames: list[int]) -> Colours:
        """Count the colours of `inside` and `outside`, bool (T, h, w), over some frames of the clip."""
        counts = np.zeros((2, _BINS**3), np.float32)
        for t in frames:
            bins = _bins(clip[t])
            for side, mask in enumerate((inside[t], outside[t])):
                counts[side] += np.bincount(bins[mask], minlength=_BINS**3)
        smooth = np.stack([_blur3(c.reshape(_BINS, _BINS, _BINS)).ravel() for c in counts])
        share = (smooth + 1e-3) / (smooth.sum(axis=1, keepdims=True) + 1e-3 * _BINS**3)
        return cls(np.clip(np.log(share[0] / share[1]), -4, 4).astype(np.float32))

    def log_ratio(self, image: Image) -> Plane:
        """Return the log-likelihood ratio of every pixel of an image, float32 (h, w): above 0 object is likelier."""
        return self.ratio[_bins(image)]


def _bins(image: Image) -> NDArray[np.int32]:
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.int32)
    light = lab[..., 0] >> 4
    # Most chroma values are near the middle: bins there are finer.
    green = np.clip((lab[..., 1] - 128) // 6 + _BINS // 2, 0, _BINS - 1)
    blue = np.clip((lab[..., 2] - 128) // 6 + _BINS // 2, 0, _BINS - 1)
    return (light * _BINS + green) * _BINS + blue


def _blur3(counts: Plane) -> Plane:
    kernel = np.array([0.2, 0.6, 0.2], np.float32)
    for axis in range(3):
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel, "same")
    return counts.astype(np.float32)


def guided_filter(guide: Plane, value: Plane, radius: int, eps: float) -> Plane:
    """Smooth `value` within the edges of `guide` (guided filter), both float32 (h, w), `guide` in 0..1."""
    size = 2 * radius + 1, 2 * radius + 1

    def mean(plane: Plane) -> Plane:
        return cv2.blur(plane, size)

    mean_g, mean_v = mean(guide), mean(value)
    slope = (mean(guide * value) - mean_g * mean_v) / (mean(guide * guide) - mean_g * mean_g + eps)
    return mean(slope) * guide + mean(mean_v - slope * mean_g)
