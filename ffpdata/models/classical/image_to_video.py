"""The embedded animator: a slow camera move over a still image, with parallax from pseudo-depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydantic import Field

from ffpdata.models.classical.depth_estimator import PseudoDepth
from ffpdata.models.protocols import Edit
from ffpdata.models.settings import BackendSettings, parse_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Image

    Map = NDArray[Any]

MAP_SIDE = 320
"""Long side, in pixels, at which the warp is computed: it is smooth, so this costs no accuracy."""


class ParallaxSettings(BackendSettings):
    """Extent of the camera move."""

    zoom: float = Field(0.10, gt=0, le=0.5)
    """Enlargement of the farthest points in the last frame; it also makes room for sideways moves."""
    parallax: float = Field(0.07, ge=0, le=0.5)
    """Further enlargement of the nearest points."""
    sway: float = Field(0.6, ge=0, le=1)
    """Sideways travel, as a fraction of the margin that the zoom leaves at the border."""


@dataclass(frozen=True)
class Move:
    """A camera move: its direction in the picture plane and its share of the zoom."""

    name: str
    right: float
    down: float
    zoom: float


MOVES = (
    Move("dolly in", 0.0, 0.0, 1.0),
    Move("truck right", 1.0, 0.0, 0.6),
    Move("truck left", -1.0, 0.0, 0.6),
    Move("dolly in to the right", 0.6, -0.2, 0.9),
    Move("dolly in to the left", -0.6, -0.2, 0.9),
    Move("crane up", 0.0, -1.0, 0.7),
)


class ParallaxAnimator:
    """An `ImageToVideo` that warps the still by its pseudo-depth. The camera moves; the scene is static."""

    name = "parallax"
    version = 1
    Settings = ParallaxSettings

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        self._depth = PseudoDepth(spec.model_copy(update={"settings": {}}))

    def close(self) -> None:
        """Do nothing: no process and no memory is held."""

    def animate(self, image: Image, *, prompt: str, frames: int, seed: int = 0) -> Edit:  # noqa: ARG002
        """Move a camera over `image`.

        Args:
            image: uint8 (H, W, 3) RGB.
            prompt: not used.
            frames: number of frames, at least 1.
            seed: picks one of `MOVES`.

        Returns:
            uint8 (frames, H, W, 3) whose first frame is the image itself, and the facts `camera_move` (index into
            `MOVES`) and `camera_travel` (largest displacement in the last frame, as a part of the picture's side).
        """
        height, width = image.shape[:2]
        scale = min(1.0, MAP_SIDE / max(height, width))
        size = (max(8, round(width * scale)), max(8, round(height * scale)))
        depth = cv2.resize(self._depth.depth(image[None])[0], size, interpolation=cv2.INTER_AREA)
        depth = cv2.GaussianBlur(depth, (0, 0), size[0] / 80)  # steep steps would tear the picture
        index = int(np.random.default_rng(seed).integers(len(MOVES)))
        out = np.empty((frames, height, width, 3), np.uint8)
        out[0] = image
        travel = 0.0
        for t in range(1, frames):
            time = t / (frames - 1)
            progress = time * time * (3 - 2 * time)
            source = self._source_positions(depth, MOVES[index], progress)
            travel = float(np.abs(source - _grid(size)).max())
            x = cv2.resize(source[..., 0], (width, height), interpolation=cv2.INTER_LINEAR) * np.float32(width)
            y = cv2.resize(source[..., 1], (width, height), interpolation=cv2.INTER_LINEAR) * np.float32(height)
            half = np.float32(0.5)
            out[t] = cv2.remap(image, x - half, y - half, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        return Edit(out, {"camera_move": float(index), "camera_travel": travel})

    def _source_positions(self, depth: Map, move: Move, progress: float) -> Map:
        """Return the source position of each pixel, float32 (h, w, 2), x and y in 0..1 of the picture.

        The position depends on the depth at the source, which depends on the position: solved by three iterations.
        """
        height, width = depth.shape
        grid = _grid((width, height))
        room = 0.5 * (1 - 1 / (1 + self.settings.zoom * move.zoom * progress))
        shift = np.array([move.right, move.down], np.float32) * np.float32(self.settings.sway * room)
        pixel_depth = depth
        source = grid
        for _ in range(3):
            size = 1 + (self.settings.zoom * move.zoom + self.settings.parallax * pixel_depth[..., None]) * progress
            # the nearest points shift one way, the farthest the other, so that the middle depth stays in place
            source = 0.5 + (grid - 0.5) / size + shift * (2 * pixel_depth[..., None] - 1)
            source = source.astype(np.float32)
            pixel_depth = cv2.remap(
                depth,
                source[..., 0] * np.float32(width) - np.float32(0.5),
                source[..., 1] * np.float32(height) - np.float32(0.5),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
        return source


def _grid(size: tuple[int, int]) -> Map:
    """Return the pixel centres of a (width, height) picture, x and y in 0..1, float32 (height, width, 2)."""
    width, height = size
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return np.stack([x, y], axis=2).astype(np.float32)
