"""Pseudo-depth: relative depth from monocular cues, without a trained model; marked as `pseudo` in the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydantic import Field

from ffpdata.models.settings import BackendSettings, parse_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Depth, Frames

    Map = NDArray[Any]


class DepthSettings(BackendSettings):
    """Weights of the cues."""

    side: int = Field(320, ge=64, le=1920)
    """Long side, in pixels, at which the cues are measured."""
    ground: float = Field(0.6, ge=0)
    """Weight of the ground plane: lower in the picture is nearer."""
    sharpness: float = Field(0.25, ge=0)
    """Weight of local contrast: sharp, detailed regions tend to be near."""
    haze: float = Field(0.12, ge=0)
    """Weight of haze: pale, bright regions tend to be far."""
    memory: float = Field(0.8, ge=0, lt=1)
    """Share of the neighbouring frame's depth in each frame's: higher is steadier, and slower to follow motion."""


class PseudoDepth:
    """A `DepthEstimator` of three monocular cues, aligned to the picture's edges by a guided filter."""

    name = "pseudo_depth"
    version = 1
    Settings = DepthSettings
    kind = "pseudo"

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)

    def close(self) -> None:
        """Do nothing: no process and no memory is held."""

    def depth(self, frames: Frames) -> Depth:
        """Estimate relative depth.

        Args:
            frames: uint8 (T, H, W, 3) RGB.

        Returns:
            float32 (T, H, W) in 0..1, near = 1; 0 and 1 are the farthest and nearest 2 % of the whole clip.
        """
        _, height, width, _ = frames.shape
        scale = min(1.0, self.settings.side / max(height, width))
        size = (max(8, round(width * scale)), max(8, round(height * scale)))
        small = np.stack([self._cues(cv2.resize(f, size, interpolation=cv2.INTER_AREA)) for f in frames])
        _smooth_over_time(small, self.settings.memory)
        far, near = (float(value) for value in np.percentile(small, (2, 98)))
        small = np.clip((small - far) / max(near - far, 1e-6), 0, 1)
        out = np.empty(frames.shape[:3], np.float32)
        for t, flat in enumerate(small):
            out[t] = cv2.resize(flat, (width, height), interpolation=cv2.INTER_LINEAR)
        return out

    def _cues(self, image: NDArray[np.uint8]) -> Map:
        """Return the weighted sum of the cues of one small frame, float32 (h, w), near = large."""
        rgb = image.astype(np.float32) / np.float32(255)
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        height, width = grey.shape
        ground = np.linspace(0, 1, height, dtype=np.float32)[:, None] ** np.float32(1.2)
        spread = width / 24
        contrast = cv2.GaussianBlur(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 2)), (0, 0), spread)
        contrast /= np.float32(contrast.max() + 1e-3)
        pale = rgb.min(axis=2)
        haze = 1 - cv2.GaussianBlur(pale, (0, 0), spread / 3)
        weights = self.settings
        raw = weights.ground * ground + weights.sharpness * contrast + weights.haze * haze
        return guided_filter(grey, raw.astype(np.float32), radius=max(2, width // 20), epsilon=0.01)


def guided_filter(guide: Map, values: Map, radius: int, epsilon: float) -> Map:
    """Smooth `values` while keeping the edges of `guide` (He et al. 2010, the fast box-filter form).

    Args:
        guide: float32 (h, w) in 0..1.
        values: float32 (h, w).
        radius: half side of the window, in pixels.
        epsilon: variance of the guide below which a window counts as flat.
    """

    def mean(picture: Map) -> Map:
        return cv2.blur(picture, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    mean_guide, mean_values = mean(guide), mean(values)
    variance = mean(guide * guide) - mean_guide * mean_guide
    slope = (mean(guide * values) - mean_guide * mean_values) / (variance + np.float32(epsilon))
    return mean(slope) * guide + mean(mean_values - slope * mean_guide)


def _smooth_over_time(maps: NDArray[np.float32], memory: float) -> None:
    """Smooth over time in place, forwards and then backwards, so that depth does not lag."""
    share = np.float32(memory)
    for order in (range(1, len(maps)), range(len(maps) - 2, -1, -1)):
        step = order.step
        for t in order:
            maps[t] += share * (maps[t - step] - maps[t])
