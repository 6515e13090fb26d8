"""How dense a head's attention between two frames is, exactly (paper, section 8.1).

Importing this module imports torch.

The density of frames i and j is the share of the weights from tokens of i to tokens of j that exceed epsilon. A matrix
of all weights is out of reach (75,600 tokens squared at 720p and 81 frames: 23 GB a head), so rows are taken in chunks:
each row is complete within its chunk, and its softmax exact.

A head is temporal where the largest density between frames exceeds the smallest within one, else spatial. Epsilon is
absolute, and an even weight is one over the number of tokens: classes hold for a size and a number of frames. Looking
at some queries only is an option: at 16 of 180 a frame densities were off by up to 0.08 and a class flipped, because
largest and smallest of noisy numbers lean to temporal.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ffpdata.models.propagation.hooks import Hooks

EPSILON = 1e-6
"""Weight above which a token counts (the paper's)."""

ROWS = 1024
"""Queries in a chunk: 310 MB of float32 at 75,600 tokens."""


def density(query: Tensor, key: Tensor, frames: int, *, epsilon: float = EPSILON, rows_per_frame: int = 0) -> Tensor:
    """Return the densities of one head.

    Args:
        query: (S, d), tokens of the clip, frame after frame, turned by their positions.
        key: likewise.
        frames: F'.
        epsilon: weight above which a token counts.
        rows_per_frame: queries of each frame that are looked at, evenly spread; 0 for all.

    Returns:
        float32 (F', F') in 0..1: from the frame of the query to that of the key.
    """
    tokens = len(query) // frames
    count = min(rows_per_frame, tokens) or tokens
    within = torch.linspace(0, tokens - 1, count, device=query.device).round().long()
    rows = (torch.arange(frames, device=query.device)[:, None] * tokens + within).flatten()
    scale = query.shape[1] ** -0.5
    counts = torch.zeros(frames, frames, device=query.device, dtype=torch.float64)
    threshold = torch.log(torch.tensor(epsilon, dtype=torch.float32))
    key = key.float()
    for chunk in rows.split(ROWS):
        scores = query[chunk].float() @ key.T * scale
        above = scores > threshold + scores.logsumexp(1, keepdim=True)
        counts.index_add_(0, chunk // tokens, above.view(len(chunk), frames, tokens).sum(2).double())
    return (counts / (count * tokens)).float()


class DensityProbe(Hooks):
    """Hooks that measure every head of a transformer while it runs; `close`, or the end of a with block, removes them.

    Args:
        dit: diffsynth's WanModel.
        frames: F' of the clips that it will be shown.
        epsilon: as for `density`.
        rows_per_frame: likewise.
        skipped: tokens before those of the clip, which take part in no frame.

    Attributes:
        densities: per layer float32 (heads, F', F'), of the last pass, on the CPU.
    """

    def __init__(
        self, dit: Any, frames: int, *, epsilon: float = EPSILON, rows_per_frame: int = 0, skipped: int = 0
    ) -> None:
        super().__init__()
        self.densities: dict[int, Tensor] = {}
        self._frames, self._skipped = frames, skipped
        self._options = {"epsilon": epsilon, "rows_per_frame": rows_per_frame}
        self._hooks = [
            block.self_attn.attn.register_forward_pre_hook(self._measure(layer))
            for layer, block in enumerate(dit.blocks)
        ]

    def _measure(self, layer: int) -> Any:
        def hook(attention: Any, arguments: tuple[Tensor, Tensor, Tensor]) -> None:
            query, key = (
                x[0, self._skipped :].unflatten(1, (attention.num_heads, -1)).transpose(0, 1) for x in arguments[:2]
            )
            found = [density(q, k, self._frames, **self._options) for q, k in zip(query, key, strict=True)]
            self.densities[layer] = torch.stack(found).cpu()

        return hook
