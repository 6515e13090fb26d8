"""Map official weight names to those of `network`, by one table that must contain every name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ffpdata.core.errors import FatalError

if TYPE_CHECKING:
    import torch

TABLE = {
    r"pretrained\.(cls_token|mask_token)": r"backbone.embeddings.\1",
    r"pretrained\.pos_embed": r"backbone.embeddings.position_embeddings",
    r"pretrained\.patch_embed\.proj\.(\w+)": r"backbone.embeddings.patch_embeddings.projection.\1",
    r"pretrained\.blocks\.(\d+)\.(norm[12]|mlp\.fc[12])\.(\w+)": r"backbone.encoder.layer.\1.\2.\3",
    r"pretrained\.blocks\.(\d+)\.attn\.proj\.(\w+)": r"backbone.encoder.layer.\1.attention.o_proj.\2",
    r"pretrained\.blocks\.(\d+)\.ls([12])\.gamma": r"backbone.encoder.layer.\1.layer_scale\2.lambda1",
    r"pretrained\.norm\.(\w+)": r"backbone.layernorm.\1",
    r"head\.projects\.(\d)\.(\w+)": r"neck.reassemble_stage.layers.\1.projection.\2",
    r"head\.resize_layers\.(\d)\.(\w+)": r"neck.reassemble_stage.layers.\1.resize.\2",
    r"head\.scratch\.output_conv1\.(\w+)": r"head.conv1.\1",
    r"head\.scratch\.output_conv2\.0\.(\w+)": r"head.conv2.\1",
    r"head\.scratch\.output_conv2\.2\.(\w+)": r"head.conv3.\1",
    r"head\.motion_modules\.(\d)\.temporal_transformer\.(.+)": r"motion.\1.\2",
}
"""Official name (of the release's `.pth` files) to the network's, as patterns of whole names."""

for _number in range(1, 5):  # upstream counts these from 1, the fusion from the finest map
    TABLE |= {
        rf"head\.scratch\.layer{_number}_rn\.(\w+)": rf"neck.convs.{_number - 1}.\1",
        rf"head\.scratch\.refinenet{_number}\.out_conv\.(\w+)": (
            rf"neck.fusion_stage.layers.{4 - _number}.projection.\1"
        ),
        rf"head\.scratch\.refinenet{_number}\.resConfUnit([12])\.conv([12])\.(\w+)": (
            rf"neck.fusion_stage.layers.{4 - _number}.residual_layer\1.convolution\2.\3"
        ),
    }

_QKV = re.compile(r"pretrained\.blocks\.(\d+)\.attn\.qkv\.(\w+)")
"""Upstream stores three matrices as one."""


def rename_weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return an official state dict with the network's names.

    Raises:
        FatalError: a name is not one of Video Depth Anything's.
    """
    out: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if found := _QKV.fullmatch(name):
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                out[f"backbone.encoder.layer.{found[1]}.attention.{part}_proj.{found[2]}"] = rows
        else:
            out[_rename(name)] = value
    return out


def _rename(name: str) -> str:
    for pattern, replacement in TABLE.items():
        if found := re.fullmatch(pattern, name):
            return found.expand(replacement)
    raise FatalError(f"weight {name!r} is not one of Video Depth Anything's: is it another model's file?")
