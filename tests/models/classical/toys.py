"""A small scene with known truth: a patterned disc crosses a textured background under a still or a moving camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Clip = NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """The clip, the background that the disc hides (with its own grain) and the disc's masks."""

    source: Clip
    background: Clip
    masks: NDArray[np.bool_]

    def inside(self, fill: Clip, margin: int = 2) -> Clip:
        """The source with `fill` where the disc is, and `margin` pixels around."""
        kernel = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
        wide = np.stack([cv2.dilate(m.astype(np.uint8), kernel) for m in self.masks]) > 0
        return np.where(wide[..., None], fill, self.source)


def texture(height: int, width: int, seed: int, tint: tuple[float, float, float] = (0.9, 1.0, 0.8)) -> Clip:
    """Noise of several scales, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    grey = np.zeros((height, width), np.float32)
    for cell, weight in ((3, 14), (8, 22), (24, 26)):
        small = rng.normal(size=(height // cell + 2, width // cell + 2)).astype(np.float32)
        grey += weight * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip((120 + grey)[..., None] * np.array(tint, np.float32), 0, 255).astype(np.uint8)


def scene(width: int = 320, height: int = 192, frames: int = 17, pan: float = 0.0, seed: int = 0) -> Scene:
    """Draw the scene; the camera pans by `pan` pixels a frame."""
    rng = np.random.default_rng(seed)
    world = texture(height, width + int(abs(pan) * frames) + 8, seed)
    radius = height // 6
    disc = texture(2 * radius + 1, 2 * radius + 1, seed + 1, (1.6, 0.35, 0.3))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    round_ = x * x + y * y <= radius * radius
    source, background, masks = [], [], []
    for t in range(frames):
        left = int(pan * t)
        clean = world[:, left : left + width]
        shown, mask = clean.copy(), np.zeros((height, width), bool)
        centre = radius + 4 + round((width - 2 * radius - 9) * t / max(1, frames - 1))
        spot = np.s_[height // 2 - radius : height // 2 + radius + 1, centre - radius : centre + radius + 1]
        shown[spot][round_] = disc[round_]
        mask[spot] = round_
        grain = rng.normal(0, 1.5, (2, *clean.shape))
        source.append(np.clip(shown + grain[0], 0, 255).astype(np.uint8))
        background.append(np.clip(clean + grain[1], 0, 255).astype(np.uint8))
        masks.append(mask)
    return Scene(np.stack(source), np.stack(background), np.stack(masks))


def painting(height: int = 128, width: int = 160, seed: int = 3) -> Clip:
    """A style reference: broad blue and yellow strokes."""
    rng = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), (30, 50, 150), np.uint8)
    for _ in range(400):
        x, y, angle = rng.integers(0, width), rng.integers(0, height), rng.normal(0.5, 0.5)
        end = int(x + 18 * np.cos(angle)), int(y + 18 * np.sin(angle))
        colour = (235, 205, 60) if rng.random() < 0.3 else (25, int(rng.integers(40, 90)), int(rng.integers(120, 200)))
        cv2.line(canvas, (int(x), int(y)), end, colour, 3)
    return canvas
