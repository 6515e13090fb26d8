"""Self-distillation with the identity task: features are aligned as the paper's section 4.3 says.

Importing this module imports torch.

The teacher is the same network on the identity task: its control is the target clip. Both see the same noise. Features
are the output of one block, averaged over K_S x K_S tokens of a frame and brought to length 1: raw products grow with
the width and the length of features, so that the weights of the paper (5 and 1) would mean nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize


def pooled(features: Tensor, grid: tuple[int, int, int], pool: int, skipped: int = 0) -> Tensor:
    """Return a block's output averaged over `pool` x `pool` tokens of each frame, and of length 1.

    Args:
        features: (1, S, C), with S = skipped + F' h w.
        grid: F', h and w, tokens of the clip.
        pool: K_S; a side that it does not divide is averaged over parts of nearly equal size.
        skipped: tokens before those of the clip.

    Returns:
        float32 (F', N, C).
    """
    frames, height, width = grid
    maps = features[0, skipped:].float().view(frames, height, width, -1).permute(0, 3, 1, 2)
    maps = adaptive_avg_pool2d(maps, (max(1, height // pool), max(1, width // pool)))
    return normalize(maps.flatten(2).transpose(1, 2), dim=-1)


def motion_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return L_motion: the mean difference of the products of tokens of different frames, in 0..2.

    Args:
        student: float32 (F', N, C), of `pooled`.
        teacher: likewise, without gradient.

    Returns:
        A scalar; 0 for a single frame, which has no relation to another.
    """
    frames, tokens = student.shape[:2]
    if frames < 2:
        return student.sum() * 0
    differences = (_gram(student) - _gram(teacher)).abs().view(frames, tokens, frames, tokens).sum((1, 3))
    between = differences.sum() - differences.diagonal().sum()
    return between / (frames * (frames - 1) * tokens**2)


def _gram(features: Tensor) -> Tensor:
    rows = features.flatten(0, 1)
    return rows @ rows.T


def drift(features: Tensor, sigma: Tensor) -> Tensor:
    """Return d_i of every frame: MMD^2 of its relations to the first frame against the first frame's own.

    Args:
        features: float32 (F', N, C).
        sigma: bandwidth of the kernel, a scalar.

    Returns:
        (F',) of the biased estimator, in which d of the first frame is 0.
    """
    relations = features[0] @ features.transpose(1, 2)  # F', N, N: row n relates token n of frame 0 to frame i
    own = relations[0]
    scale = 2 * sigma**2
    among = torch.exp(-squared_distances(relations, relations) / scale).mean((1, 2))
    across = torch.exp(-squared_distances(own.expand_as(relations), relations) / scale).mean((1, 2))
    return among[0] + among - 2 * across


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distances of the rows of a (..., N, D) from those of b (..., M, D): (..., N, M), never < 0."""
    lengths = (a**2).sum(-1)[..., :, None] + (b**2).sum(-1)[..., None, :]
    return (lengths - 2 * a @ b.transpose(-1, -2)).clamp_min(0)


def bandwidth(teacher: Tensor) -> Tensor:
    """Return the median distance between the relations of different tokens in the teacher's first frame; 1 if it is 0.

    With a fixed bandwidth far from the distances every kernel is 0 or 1 and the loss has no gradient.

    Args:
        teacher: float32 (F', N, C).
    """
    own = teacher[0] @ teacher[0].T
    rows, columns = torch.triu_indices(len(own), len(own), 1, device=own.device)
    if not len(rows):
        return own.new_ones(())
    median = squared_distances(own, own)[rows, columns].sqrt().median()
    return torch.where(median > 0, median, torch.ones_like(median))


def mmd_loss(student: Tensor, teacher: Tensor, sigma: float = 0.0) -> Tensor:
    """Return L_MMD: the sum over the frames after the first of |d_i - teacher's d_i|.

    Args:
        student: float32 (F', N, C), of `pooled`.
        teacher: likewise, without gradient.
        sigma: bandwidth; 0 takes `bandwidth`.
    """
    with torch.no_grad():
        width = teacher.new_tensor(sigma) if sigma else bandwidth(teacher)
        wanted = drift(teacher, width)
    return (drift(student, width) - wanted)[1:].abs().sum()


class Tap:
    """What came out of a block, the first time that it ran."""

    def __init__(self) -> None:
        self.features: Tensor | None = None


class _Enough(Exception):
    """Ends a forward pass behind the tapped block."""


@contextlib.contextmanager
def tapped(dit: Any, block: int, *, stop: bool = False) -> Iterator[Tap]:
    """Keep the output of a block inside a with block.

    Args:
        dit: diffsynth's WanModel.
        block: from 1.
        stop: end the pass there; the blocks behind it do not run.
    """
    tap = Tap()

    def hook(_: Any, __: Any, output: Tensor) -> None:
        if tap.features is None:  # not what is computed again for the backward pass
            tap.features = output
        if stop:
            raise _Enough

    handle = dit.blocks[block - 1].register_forward_hook(hook)
    try:
        yield tap
    except _Enough:
        pass
    finally:
        handle.remove()
