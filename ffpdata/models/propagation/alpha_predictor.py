"""The factors of AST-RoPE from the source latent: a light transformer and an MLP for each (paper, section 4.2).

Importing this module imports torch.

The tokens have positions in space and time: without them a transformer with a mean over its tokens could not tell a
clip from its frames in another order. The last layers start at zero, so that every clip starts with the same factors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ffpdata.models.propagation.settings import PropagationSettings


class AlphaPredictor(nn.Module):
    """Predicts alpha_S in 0..1 and alpha_T in 0..2, one pair per clip, in float32.

    Args:
        channels: of the source latent.
        settings: sizes, and the factors to start with.
    """

    def __init__(self, channels: int, settings: PropagationSettings) -> None:
        super().__init__()
        width, patch = settings.predictor_width, settings.predictor_patch
        self.patch = patch
        self.embed = nn.Conv3d(channels, width, (1, patch, patch), stride=(1, patch, patch))
        self.blocks = nn.ModuleList(_Block(width, settings.predictor_heads) for _ in range(settings.predictor_layers))
        self.norm = nn.LayerNorm(width)
        self.spatial, self.temporal = _mlp(width), _mlp(width)
        self.start = _logit(settings.alpha_s), _logit(settings.alpha_t / 2)

    def forward(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha_S and alpha_T, float32 (B,) each, of source latents (B, z, F', H', W')."""
        height, width = source.shape[3:]
        # The last tokens may reach over the edge: zeros there.
        padded = nn.functional.pad(source.float(), (0, -width % self.patch, 0, -height % self.patch))
        tokens = self.embed(padded)
        tokens = (tokens + positions(tokens)).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        clip = self.norm(tokens.mean(1))
        alpha_s = torch.sigmoid(self.spatial(clip)[:, 0] + self.start[0])
        alpha_t = 2 * torch.sigmoid(self.temporal(clip)[:, 0] + self.start[1])
        return alpha_s, alpha_t


class _Block(nn.Module):
    """A transformer block: attention and a feed-forward network, each after a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ffn = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, 2))
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.ffn(self.norm2(x))


def positions(tokens: Tensor) -> Tensor:
    """Return sines and cosines of the place of every token (B, C, T, H, W) in time and space: float32 (1, C, T, H, W).

    Each axis has a third of the channels, in pairs of the frequencies 10000^(-i/n); channels left over stay zero.
    """
    channels = tokens.shape[1]
    pairs = channels // 6
    found = tokens.new_zeros(1, *tokens.shape[1:])
    rates = 10000.0 ** (-torch.arange(pairs, device=tokens.device, dtype=torch.float32) / max(1, pairs))
    for axis, length in enumerate(tokens.shape[2:]):
        angles = torch.outer(rates, torch.arange(length, device=tokens.device, dtype=torch.float32))
        shape = [pairs, 1, 1, 1]
        shape[axis + 1] = length
        first = 2 * pairs * axis
        found[0, first : first + pairs] = angles.sin().view(shape)
        found[0, first + pairs : first + 2 * pairs] = angles.cos().view(shape)
    return found


def _mlp(width: int) -> nn.Sequential:
    last = nn.Linear(width, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(width, width), nn.SiLU(), last)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
