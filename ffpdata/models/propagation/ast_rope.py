"""AST-RoPE: temporal positions that a head's kind and the clip decide (paper, section 4.2), laid over diffsynth's.

Importing this module imports torch.

For a spatial head the temporal index of frame 0 becomes alpha_S F' and all others stay; for a temporal head index i
becomes alpha_T i. Space is left alone. The identity is alpha_S = 0, alpha_T = 1. diffsynth turns queries and keys by
the usual indices; a hook on the attention behind that turns them further, by the difference of the two angles: turns
add up. So no layer has a table of tokens x heads, and the transformer's code stays as it is.

Reference tokens, where there are any, stand before those of the clip and keep their place. Under sequence parallelism
diffsynth's attention is another function that never comes by the hook: it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.models.propagation.hooks import Hooks

_BOUND = "_ffpdata_turns"
"""Attribute of diffsynth's table of angles, one per forward pass: the turns of that pass. A block that is computed
again for the backward pass gets the same table, and so its own turns, whatever ran in between."""


@dataclass(frozen=True)
class Turns:
    """The further turns of one forward pass.

    Attributes:
        cos: float32 (2, B, F', n): of spatial and of temporal heads, by frame and pair of a head's numbers.
        sin: likewise.
        skipped: tokens before those of the clip.
    """

    cos: Tensor
    sin: Tensor
    skipped: int = 0


def turns(alpha_s: Tensor, alpha_t: Tensor, rates: Tensor, frames: int, skipped: int = 0) -> Turns:
    """Return the turns for some clips.

    Args:
        alpha_s: (B,).
        alpha_t: (B,).
        rates: angles of the temporal index 1, float (n,): `AstRope.rates`.
        frames: F', latent frames of the clip.
        skipped: tokens before those of the clip.
    """
    index = torch.arange(frames, device=rates.device, dtype=torch.float32)
    first = (index == 0).float() * frames
    moved = torch.stack([alpha_s.float()[:, None] * first, (alpha_t.float()[:, None] - 1) * index])
    angles = moved[..., None] * rates.float()
    return Turns(angles.cos(), angles.sin(), skipped)


def turn(x: Tensor, cos: Tensor, sin: Tensor, heads: int, skipped: int = 0) -> Tensor:
    """Turn the temporal numbers of queries or keys.

    Args:
        x: (B, S, heads * d); the first 2n numbers of each head are pairs of adjacent numbers.
        cos: float32 (B, F', heads, n).
        sin: likewise.
        heads: of the layer.
        skipped: tokens that stay.
    """
    frames, pairs = cos.shape[1], cos.shape[3]
    clip = x[:, skipped:].unflatten(2, (heads, -1)).unflatten(1, (frames, -1))  # B, F', tokens, heads, d
    a, b = clip[..., : 2 * pairs].float().unflatten(-1, (pairs, 2)).unbind(-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).to(x.dtype)
    clip = torch.cat([turned, clip[..., 2 * pairs :]], dim=-1).flatten(3).flatten(1, 2)
    return clip if not skipped else torch.cat([x[:, :skipped], clip], dim=1)


class AstRope(Hooks):
    """Hooks on every self-attention of a transformer; `close`, or the end of a with block, removes them.

    Args:
        dit: diffsynth's WanModel.
        temporal: per layer and head whether the head is temporal.

    Raises:
        ConfigError: the classes are of another transformer, or attention is spread over several devices.
    """

    def __init__(self, dit: Any, temporal: Sequence[Sequence[bool]]) -> None:
        super().__init__()
        blocks = dit.blocks
        heads = blocks[0].self_attn.num_heads
        if len(temporal) != len(blocks) or any(len(layer) != heads for layer in temporal):
            width = len(temporal[0]) if temporal else 0
            raise ConfigError(
                f"heads were classified for {len(temporal)} layers of {width}, the transformer has {len(blocks)} of "
                f"{heads}: classify its own by `ffpdata heads`"
            )
        if any("forward" in vars(block.self_attn) for block in blocks):
            raise ConfigError("AST-RoPE does not reach attention that is spread over devices: sequence_parallel 1")
        self.rates = torch.angle(dit.freqs[0][1]).float()
        self._heads = heads
        self._next: Turns | None = None
        self._now: Turns | None = None
        for block, kinds in zip(blocks, temporal, strict=True):
            self._hooks.append(block.self_attn.register_forward_pre_hook(self._bind))
            self._hooks.append(block.self_attn.attn.register_forward_pre_hook(self._turner(list(kinds))))

    def use(self, alpha_s: Tensor, alpha_t: Tensor, frames: int, skipped: int = 0) -> None:
        """Set the factors of the next forward passes; arguments as for `turns`."""
        self._next = turns(alpha_s, alpha_t, self.rates.to(alpha_s.device), frames, skipped)

    def _bind(self, _: Any, arguments: tuple[Tensor, Tensor]) -> None:
        """Take the turns of the pass that is being computed, or computed again, from its table of angles."""
        freqs = arguments[1]
        if not hasattr(freqs, _BOUND):
            setattr(freqs, _BOUND, self._next)
        self._now = getattr(freqs, _BOUND)

    def _turner(self, kinds: list[bool]) -> Any:
        chosen = torch.tensor(kinds, dtype=torch.long)

        def hook(_: Any, arguments: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            if self._now is None:
                raise FatalError("AST-RoPE was asked for no clip: call use() before the transformer")
            q, k, v = arguments
            kind = chosen.to(q.device)
            # (2, B, F', n) by head: (B, F', heads, n)
            cos, sin = (table[kind].permute(1, 2, 0, 3) for table in (self._now.cos, self._now.sin))
            skipped = self._now.skipped
            return turn(q, cos, sin, self._heads, skipped), turn(k, cos, sin, self._heads, skipped), v

        return hook
