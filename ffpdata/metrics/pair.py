"""A pair of clips as the metrics see it: small grey frames, regions, the source's motion, all computed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np

from ffpdata.media.flow import dense_flow
from ffpdata.metrics.full_size import FullSize, measure_full_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Masks = NDArray[np.bool_]
    Floats = NDArray[np.float32]
    Series = NDArray[np.float64]

Value = TypeVar("Value")

SMALL_WIDTH = 400
"""Width of the small frames, in which everything is measured that does not need the full size."""
RIM = 6
"""Pixels of a 720p frame around the region that count neither as inside nor as outside: codecs blur the border."""
LEAST_PIXELS = 12
"""Fewest pixels of a small frame from which a region is measured in it."""


class Pair:
    """Source and target of one pair, and what several metrics need of them.

    Args:
        source, target: uint8 (T, H, W, 3) RGB, of one shape.
        region: bool (T, H, W), what the edit may repaint; None where that is the whole picture.
        outline: bool (T, H, W), the object in the source; `region` where None.
        removes: whether the edit takes the object away.
        around: whether the edit is around the object and not in its place.

    Raises:
        ValueError: arrays whose shapes do not fit each other.
    """

    def __init__(
        self,
        source: Frames,
        target: Frames,
        *,
        region: Masks | None = None,
        outline: Masks | None = None,
        removes: bool = False,
        around: bool = False,
    ) -> None:
        for name, array, shape in (
            ("target", target, source.shape),
            ("region", region, source.shape[:3]),
            ("outline", outline, source.shape[:3]),
        ):
            if array is not None and array.shape != shape:
                raise ValueError(f"the {name} is {array.shape}, and the source asks for {shape}")
        self.source, self.target = source, target
        self.region, self.outline = region, region if outline is None else outline
        self.removes, self.around = removes, around
        self.scale = max(1.0, source.shape[2] / SMALL_WIDTH)
        """Pixels of the clip per pixel of the small frames."""
        self._known: dict[Callable[[Pair], Any], Any] = {}

    def __len__(self) -> int:
        return len(self.source)

    def once(self, function: Callable[[Pair], Value]) -> Value:
        """Return `function` of this pair, computed at the first call: for what several metrics share."""
        if function not in self._known:
            self._known[function] = function(self)
        found: Value = self._known[function]
        return found

    @property
    def whole(self) -> bool:
        """Whether the edit may change every pixel, as a stylization does."""
        return self.region is None

    @cached_property
    def full(self) -> FullSize:
        """What is measured in every frame at full size."""
        rim = max(2, round(RIM * min(self.source.shape[1:3]) / 720))
        return measure_full_size(self.source, self.target, self.region, rim)

    @cached_property
    def small(self) -> tuple[Frames, Frames]:
        """Both clips at most `SMALL_WIDTH` wide: uint8 (T, h, w, 3)."""
        return self._shrunk(self.source), self._shrunk(self.target)

    @cached_property
    def gray(self) -> tuple[Frames, Frames]:
        """The small clips in grey: uint8 (T, h, w)."""
        first, second = (np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in clip]) for clip in self.small)
        return first, second

    @cached_property
    def edited(self) -> Masks:
        """Where the edit must show, bool (T, h, w): the object, what is around it, or the whole picture."""
        if self.region is None or self.outline is None:
            return np.ones(self.gray[0].shape, bool)
        return self._shrunk_masks(self.region if self.around else self.outline)

    @cached_property
    def repainted(self) -> Masks:
        """What the edit may repaint, bool (T, h, w)."""
        return np.ones(self.gray[0].shape, bool) if self.region is None else self._shrunk_masks(self.region)

    @cached_property
    def outside(self) -> Masks:
        """What must stay as it is, bool (T, h, w), without a rim; the whole picture of a stylization."""
        if self.whole:
            return np.ones(self.gray[0].shape, bool)
        rim = max(1, round(RIM * min(self.gray[0].shape[1:]) / 720)) + 1
        return np.stack([~grow(mask, rim) for mask in self.repainted])

    @cached_property
    def flows(self) -> Floats:
        """Motion of the source from each frame to the next, float32 (T - 1, h, w, 2), pixels of the small frames."""
        return _flows(self.gray[0])

    @cached_property
    def target_flows(self) -> Floats:
        """Motion of the target, as `flows`."""
        return _flows(self.gray[1])

    @cached_property
    def edges(self) -> tuple[Floats, Floats]:
        """Edge strength of both clips, float32 (T, h, w), each frame of mean 0 and deviation 1."""
        first, second = (np.stack([_edges(frame) for frame in clip]) for clip in self.gray)
        return first, second

    def _shrunk(self, frames: Frames) -> Frames:
        if self.scale == 1:
            return frames
        return np.stack([cv2.resize(f, self._size, interpolation=cv2.INTER_AREA) for f in frames])

    def _shrunk_masks(self, masks: Masks) -> Masks:
        if self.scale == 1:
            return masks
        return np.stack(
            [
                cv2.resize(np.ascontiguousarray(m).view(np.uint8), self._size, interpolation=cv2.INTER_NEAREST) > 0
                for m in masks
            ]
        )

    @cached_property
    def _size(self) -> tuple[int, int]:
        height, width = self.source.shape[1:3]
        return max(1, round(width / self.scale)), max(1, round(height / self.scale))


def grow(mask: Masks, px: int) -> Masks:
    """Dilate one bool mask (h, w) by a square of `px` pixels on every side."""
    return cv2.dilate(np.ascontiguousarray(mask).view(np.uint8), np.ones((2 * px + 1, 2 * px + 1), np.uint8)) > 0


def blur(image: Floats, sigma: float) -> Floats:
    """Blur one image with a Gaussian of `sigma` pixels, in float32."""
    return cv2.GaussianBlur(np.asarray(image, np.float32), (0, 0), sigma)


def _flows(clip: Frames) -> Floats:
    if len(clip) < 2 or min(clip.shape[1:]) < 16:  # smaller than a patch of the flow
        return np.zeros((max(0, len(clip) - 1), *clip.shape[1:], 2), np.float32)
    return np.stack([dense_flow(first, second) for first, second in pairwise(clip)])


def _edges(frame: Frames) -> Floats:
    soft = blur(frame, 1.0)
    steep = np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1))
    # Local contrast is taken out: otherwise the few strongest edges are all that counts.
    steep = steep / (blur(steep, 8.0) + 8.0)
    steep -= steep.mean()
    deviation = float(steep.std())
    return steep / deviation if deviation > 1e-6 else np.zeros_like(steep)
