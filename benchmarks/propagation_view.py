"""What the small model of `benchmarks.propagation` is shown: varied pairs, and the stand-in for the VAE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from benchmarks.propagation_pairs import Clip

FOLDING = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, -1, 1], [1, -1, 1, -1]], np.float32) / 2
"""Hadamard's, which is its own inverse: four frames to their mean and three differences."""
BLOCK = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], np.float32) / 2
"""The same for the pixels of a 2 x 2 block, row by row: their mean, and differences across, down and both."""
GAINS = np.array([[4, 5, 5, 6], [6, 7, 7, 7], [7, 7, 7, 7], [7, 7, 7, 7]], np.float32)
"""Of the numbers of four frames (rows, as `FOLDING`) by the pixels of a block (columns, as `BLOCK`). Without, the mean
of both has a deviation of 1.9, the others of 0.05 to 0.4. What is small is raised a little, not to one deviation: the
loss would be of details then. All are large, so that noise that stays in the answer is small beside the picture."""
COARSE = 4
"""Pixels of a varied frame, each way, of which one that the model sees is the mean."""


@dataclass
class Size:
    """Of what the model sees: a sixth of the runs' clips each way, and every fourth of their frames."""

    height: int = 16
    width: int = 24
    frames: int = 9
    stride: int = 4


SEEN = Size()


# --- the stand-in for the VAE ---


def fold(frames: np.ndarray) -> Any:
    """Fold frames into a latent: the first alone, then four at a time, as channels; blocks of 2 x 2 in their place.

    Args:
        frames: uint8 (4n + 1, H, W, 3), or one frame; H and W even.

    Returns:
        float32 (1, 12, n + 1, H, W).
    """
    import torch

    values = torch.from_numpy(np.ascontiguousarray(frames)).float() / 127.5 - 1
    values = torch.cat([values[:1].expand(3, -1, -1, -1), values]).unflatten(0, (-1, 4))  # n + 1, 4, H, W, 3
    folded = torch.einsum("kt,ntyxc->kcnyx", torch.from_numpy(FOLDING), values)
    blocks = _blocks(folded) @ torch.from_numpy(BLOCK.T) * torch.from_numpy(GAINS)[:, None, None, None, None]
    return _frames(blocks).flatten(0, 1)[None].contiguous()


def unfold(latent: Any) -> np.ndarray:
    """Undo `fold`: uint8 (4n + 1, H, W, 3); of the first frame's four copies the mean."""
    import torch

    blocks = _blocks(latent[0].unflatten(0, (4, 3))) / torch.from_numpy(GAINS)[:, None, None, None, None]
    values = torch.einsum("kt,kcnyx->ntyxc", torch.from_numpy(FOLDING), _frames(blocks @ torch.from_numpy(BLOCK)))
    frames = np.concatenate([values[0].mean(0, keepdim=True).numpy(), values[1:].flatten(0, 1).numpy()])
    return np.clip((frames + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def _blocks(values: Any) -> Any:
    """Return (..., H, W) as (..., H / 2, W / 2, 4)."""
    return values.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).transpose(-3, -2).flatten(-2)


def _frames(blocks: Any) -> Any:
    """Undo `_blocks`."""
    return blocks.unflatten(-1, (2, 2)).transpose(-3, -2).flatten(-2).flatten(-3, -2)


def encoded(source: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    """Return the latents of a pair, as `training.PropagationEncoding` does; there is no text."""
    import torch

    words = torch.zeros(1, 1, 16)
    latents = {"source": fold(source), "target": fold(target), "first_frame": fold(target[:1])}
    return latents | {"context": words, "empty_context": words, "context_length": torch.tensor(1)}


# --- a pair as it is, and varied ---


def small(frames: np.ndarray) -> np.ndarray:
    size = SEEN.width, SEEN.height
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def span(stride: int) -> int:
    """Return the frames of a clip from the first to the last that the model sees."""
    return (SEEN.frames - 1) * stride + 1


def seen(frames: np.ndarray) -> np.ndarray:
    """Return the frames of a clip that the model sees, at their own size."""
    return frames[: span(SEEN.stride) : SEEN.stride]


def varied(clip: Clip, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a pair for training, as the model sees it.

    Whatever is done to the source is done to the target: another time and speed, now and then backwards; mirrored; seen
    by a second camera, which pans, shakes, turns and comes nearer; other colours. In three of ten pairs the target gets
    colours of its own, the same in all its frames: another edit, which the first frame shows as it shows any.
    """
    strides = [n for n in range(1, SEEN.stride + 1) if span(n) <= len(clip.source)]
    stride = int(rng.choice(strides)) if rng.random() < 0.4 else strides[-1]
    start = int(rng.integers(0, len(clip.source) - span(stride) + 1))
    there = slice(start, start + span(stride), stride)
    both = [clip.source[there], clip.target[there]]
    if rng.random() < 0.2:
        both = [frames[::-1] for frames in both]
    views = _camera(*both[0].shape[1:3], rng)
    source, target = (_viewed(frames, views) for frames in both)
    if rng.random() < 0.5:
        order = rng.permutation(3)
        source, target = source[..., order], target[..., order]
        return (source, target) if rng.random() < 0.5 else (255 - source, 255 - target)
    colours = _colours(rng)
    own = colours if rng.random() < 0.4 else _colours(rng)
    return _coloured(source, *colours), _coloured(target, *own)


def _camera(height: int, width: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return for every frame the matrix from what the model sees to the frame, both in pixels, (2, 3)."""
    time = np.linspace(0, 1, SEEN.frames)
    share = rng.uniform(0.55, 1)
    path, sizes, degrees = np.zeros((2, SEEN.frames)), np.full(SEEN.frames, share), np.zeros(SEEN.frames)
    if rng.random() < 0.7:
        waves = rng.uniform(0.5, 3, (2, 3, 1)) * time + rng.uniform(0, 1, (2, 3, 1))
        shaken = (rng.normal(0, 0.03, (2, 3, 1)) * np.sin(2 * np.pi * waves)).sum(1)
        path = rng.normal(0, 0.25, (2, 1)) * (time - 0.5) + shaken
        sizes = share * np.exp(rng.normal(0, 0.12) * (time - 0.5))
        degrees = rng.normal(0, 6) * time * (rng.random() < 0.5)
    middle = 0.5 + rng.uniform(-0.5, 0.5, 2) * (1 - share)
    mirrored = rng.choice([-1, 1], 2)
    views = []
    for index in range(SEEN.frames):
        turn = np.deg2rad(degrees[index])
        scale = sizes[index] * mirrored * (width / (SEEN.width * COARSE), height / (SEEN.height * COARSE))
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * scale
        centre = (middle + path[:, index]) * (width, height)
        corner = centre - matrix @ (SEEN.width * COARSE / 2, SEEN.height * COARSE / 2)
        views.append(np.column_stack([matrix, corner]))
    return views


def _viewed(frames: np.ndarray, views: list[np.ndarray]) -> np.ndarray:
    size = SEEN.width * COARSE, SEEN.height * COARSE
    how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REFLECT_101}
    pairs = zip(frames, views, strict=True)
    return small(np.stack([cv2.warpAffine(np.ascontiguousarray(frame), view, size, **how) for frame, view in pairs]))


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix and a shift of colours in -1..1: another order of channels, perhaps inverted, mixed a little."""
    matrix = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1]) + rng.normal(0, 0.25, (3, 3))
    return matrix * rng.uniform(0.6, 1.1), rng.normal(0, 0.15, 3)


def _coloured(frames: np.ndarray, matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    values = (frames / 127.5 - 1) @ matrix.T + shift
    return np.clip((values + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)
