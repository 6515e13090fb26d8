"""Room for the first-frame mask in the transformer's first convolution (paper, section 4.1).

Importing this module imports torch.

Fun-Control's takes 48 channels and none of them is a mask. The columns for it start at zero, so that the widened
transformer is the base; no LoRA can be laid over them, and they are trained as a whole. They are a convolution of their
own beside the base's, whose weights stay as they are: 4 x channels x width numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ffpdata.core.errors import ConfigError, FatalError

if TYPE_CHECKING:
    from ffpdata.models.propagation.settings import PropagationSettings

STATE = "patch_embedding.mask"
"""Name of the columns in a file and in the transformer."""


class WidenedPatchEmbedding(torch.nn.Module):
    """A patch embedding with columns for the mask before those of the last part, the first frame.

    Args:
        base: the transformer's own, Conv3d of 3z channels.
        channels: of the mask.
    """

    def __init__(self, base: torch.nn.Module, channels: int) -> None:
        super().__init__()
        weight = base.weight
        self.base, self.channels = base, channels
        self.before = weight.shape[1] * 2 // 3
        self.mask = torch.nn.Parameter(weight.new_zeros(weight.shape[0], channels, *weight.shape[2:]))
        self.stride = tuple(weight.shape[2:])

    @property
    def weight(self) -> Tensor:
        """The base's own columns."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """Embed (B, 3z + channels, F', H', W')."""
        start, end = self.before, self.before + self.channels
        embedded = self.base(torch.cat([x[:, :start], x[:, end:]], dim=1))
        return embedded + torch.nn.functional.conv3d(x[:, start:end], self.mask.to(x), stride=self.stride)


def prepare(dit: Any, settings: PropagationSettings) -> None:
    """Make a Fun-Control transformer take the input of some settings: room for their mask.

    Args:
        dit: diffsynth's WanModel.
        settings: of the model.

    Raises:
        FatalError: its input is not made of three parts, noisy, control and first frame, or it has room already.
        ConfigError: it has no layer for the reference tokens that the settings want.
    """
    latent = dit.head.head.out_features // math.prod(dit.patch_size)
    if dit.in_dim != 3 * latent or isinstance(dit.patch_embedding, WidenedPatchEmbedding):
        raise FatalError(
            f"the transformer takes {dit.in_dim} channels, one of Fun-Control {3 * latent}: name a checkpoint as "
            "alibaba-pai/Wan2.1-Fun-V1.1-1.3B-Control"
        )
    if settings.reference_tokens != "none" and not dit.has_ref_conv:
        raise ConfigError("reference_tokens zero: this Fun-Control has no layer for them, V1.1 has: set none")
    if settings.mask_channels:
        dit.patch_embedding = WidenedPatchEmbedding(dit.patch_embedding, settings.mask_channels)
        dit.in_dim += settings.mask_channels
