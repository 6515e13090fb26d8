"""Video Depth Anything's network: DINOv2 and the neck of Depth Anything, with four temporal attention blocks.

After upstream's `dinov2.py`, `dpt_temporal.py` and `motion_module/`. The modules only hold weights; the
forward pass, which differs from transformers' own Depth Anything, is written here. All sizes are read from the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ffpdata.core.errors import FatalError
from ffpdata.models.video_depth.weight_names import rename_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

PATCH = 14
"""Side of DINOv2's patches, pixels."""

HEAD_SIZE = 64
"""Channels per attention head of every DINOv2."""

TAPS = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23)}
"""Number of layers to the layers whose tokens are used (upstream: `intermediate_layer_idx`)."""

MOTION_HEADS = 8
MOTION_GROUPS = 32
MOTION_LAYERS = 2
"""Sizes of the temporal blocks (upstream: `dpt_temporal.py`)."""

POSITION_OFFSET = 0.1
"""Upstream adds this to the grid size when it resamples position embeddings, which shifts them."""

FRAMES_AT_ONCE = 4
"""Frames per batch of the finest maps, which are the largest (upstream: `micro_batch_size`)."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a checkpoint: the only differences of Small, Base and Large.

    Attributes:
        hidden: channels of the tokens.
        layers: transformer layers.
        positions: position embeddings, including the class token's.
        channels: channels of the four maps, fine to coarse.
        fusion: channels of the fused maps.
        window: frames with position embeddings in the temporal blocks.
    """

    hidden: int
    layers: int
    positions: int
    channels: tuple[int, ...]
    fusion: int
    window: int


def shape_of(state: Mapping[str, Tensor]) -> Shape:
    """Read the sizes from an official state dict.

    Raises:
        FatalError: it is of another architecture.
    """
    try:
        _, positions, hidden = state["pretrained.pos_embed"].shape
        channels = tuple(state[f"head.projects.{i}.weight"].shape[0] for i in range(4))
        fusion = state["head.scratch.layer1_rn.weight"].shape[0]
        place = "head.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe"
        window = state[place].shape[1]
    except KeyError as err:
        raise FatalError(f"not the weights of Video Depth Anything: {err} is missing") from None
    layers = len({found[1] for name in state if (found := re.match(r"pretrained\.blocks\.(\d+)\.", name))})
    if layers not in TAPS or hidden % HEAD_SIZE:
        raise FatalError(
            f"not the weights of Video Depth Anything: {layers} layers of {hidden} channels; "
            f"known are {' and '.join(map(str, TAPS))} layers of a multiple of {HEAD_SIZE}"
        )
    return Shape(hidden, layers, positions, channels, fusion, window)


def build(state: Mapping[str, Tensor]) -> nn.ModuleDict:
    """Build the network and load an official state dict into it, strictly.

    Args:
        state: names and shapes of the release's `.pth` files.

    Raises:
        FatalError: a weight is missing, unknown, or of another shape.
    """
    from torch import device, nn
    from transformers import DepthAnythingConfig, Dinov2Config, Dinov2Model
    from transformers.models.depth_anything import modeling_depth_anything as library

    shape = shape_of(state)
    side = PATCH * round((shape.positions - 1) ** 0.5)
    backbone = Dinov2Config(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // HEAD_SIZE,
        image_size=side,
        patch_size=PATCH,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=PATCH,
        reassemble_hidden_size=shape.hidden,
        neck_hidden_sizes=list(shape.channels),
        fusion_hidden_size=shape.fusion,
    )
    with device("meta"):  # allocates no values that the weights would replace
        network = nn.ModuleDict(
            {
                "backbone": Dinov2Model(backbone),
                "neck": library.DepthAnythingNeck(config),
                "head": library.DepthAnythingDepthEstimationHead(config),
                "motion": nn.ModuleList(
                    _motion(channels, shape.window) for channels in (*shape.channels[2:], shape.fusion, shape.fusion)
                ),
            }
        )
    try:
        network.load_state_dict(rename_weights(state), strict=True, assign=True)
    except RuntimeError as err:
        raise FatalError(f"not the weights of Video Depth Anything: {str(err)[:600]}") from err
    return network.float().eval()


def _motion(channels: int, window: int) -> nn.ModuleDict:
    """Return the modules of a temporal block, with upstream's names."""
    import torch
    from torch import nn

    def attention() -> nn.ModuleDict:
        positions = nn.Module()
        positions.register_buffer("pe", torch.empty(1, window, channels))
        mixers = {f"to_{part}": nn.Linear(channels, channels, bias=False) for part in "qkv"}
        return nn.ModuleDict(
            {**mixers, "to_out": nn.ModuleList([nn.Linear(channels, channels)]), "pos_encoder": positions}
        )

    gate = nn.ModuleDict({"proj": nn.Linear(channels, 8 * channels)})
    feed = nn.ModuleDict({"net": nn.ModuleList([gate, nn.Identity(), nn.Linear(4 * channels, channels)])})
    block = {
        "attention_blocks": nn.ModuleList(attention() for _ in range(MOTION_LAYERS)),
        "norms": nn.ModuleList(nn.LayerNorm(channels) for _ in range(MOTION_LAYERS)),
        "ff": feed,
        "ff_norm": nn.LayerNorm(channels),
    }
    return nn.ModuleDict(
        {
            "norm": nn.GroupNorm(MOTION_GROUPS, channels, eps=1e-6),
            "proj_in": nn.Linear(channels, channels),
            "transformer_blocks": nn.ModuleList([nn.ModuleDict(block)]),
            "proj_out": nn.Linear(channels, channels),
        }
    )


def nearness(network: nn.ModuleDict, pixels: Tensor) -> Tensor:
    """Estimate one window.

    Args:
        network: as `build` returns it.
        pixels: float32 (T, 3, h, w), normalised by `MEAN` and `STD`; h and w are multiples of 14.

    Returns:
        float32 (T, h, w), >= 0, near = large, up to an unknown scale and shift.
    """
    import torch

    neck, head, motion = network["neck"], network["head"], network["motion"]
    rows, columns = pixels.shape[2] // PATCH, pixels.shape[3] // PATCH
    maps = [
        layer(tokens[:, 1:].transpose(1, 2).unflatten(2, (rows, columns)))
        for layer, tokens in zip(neck.reassemble_stage.layers, _tokens(network["backbone"], pixels), strict=True)
    ]
    maps[2], maps[3] = over_time(motion[0], maps[2]), over_time(motion[1], maps[3])
    first, second, third, fourth = (conv(map_) for conv, map_ in zip(neck.convs, maps, strict=True))
    fuse = neck.fusion_stage.layers
    coarse = over_time(motion[2], fuse[0](fourth, size=third.shape[2:]))
    coarse = over_time(motion[3], fuse[1](coarse, third, size=second.shape[2:]))
    found = []
    for part in range(0, len(pixels), FRAMES_AT_ONCE):
        some = slice(part, part + FRAMES_AT_ONCE)
        fine = fuse[3](fuse[2](coarse[some], second[some], size=first.shape[2:]), first[some])
        fine = _resize(head.conv1(fine), (rows * PATCH, columns * PATCH))
        with torch.autocast(pixels.device.type, enabled=False):
            found.append(head.conv3(head.conv2(fine.float()).relu()).relu())
    return torch.cat(found)[:, 0]


def _tokens(backbone: Any, pixels: Tensor) -> list[Tensor]:
    """Return the normalised tokens of the tapped layers, (T, 1 + rows * columns, hidden) each."""
    import torch

    embeddings = backbone.embeddings
    patches = embeddings.patch_embeddings(pixels)
    tokens = torch.cat([embeddings.cls_token.expand(len(pixels), -1, -1).to(patches.dtype), patches], dim=1)
    rows, columns = pixels.shape[2] // PATCH, pixels.shape[3] // PATCH
    tokens = tokens + _positions(embeddings.position_embeddings, rows, columns).to(tokens.dtype)
    taps = TAPS[len(backbone.encoder.layer)]
    found = []
    for number, layer in enumerate(backbone.encoder.layer):
        tokens = layer(tokens)
        if number in taps:
            found.append(backbone.layernorm(tokens))
    return found


def _positions(embeddings: Tensor, rows: int, columns: int) -> Tensor:
    """Resample position embeddings to a grid as upstream does, (1, 1 + rows * columns, hidden)."""
    import torch
    from torch.nn import functional

    side = round((embeddings.shape[1] - 1) ** 0.5)
    if rows == columns == side:
        return embeddings
    grid = embeddings[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    factors = ((rows + POSITION_OFFSET) / side, (columns + POSITION_OFFSET) / side)
    grid = functional.interpolate(grid, scale_factor=factors, mode="bicubic")
    return torch.cat([embeddings[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def over_time(block: Any, maps: Tensor) -> Tensor:
    """Apply temporal attention to maps, (T, channels, h, w), at each position; T is at most the window."""
    from torch.nn import functional

    height, width = maps.shape[2:]
    # (T, channels, h, w) to a sequence over time at each of the h * w positions
    x = block["proj_in"](block["norm"](maps).permute(2, 3, 0, 1).flatten(0, 1))
    for layer in block["transformer_blocks"]:
        for attention, norm in zip(layer["attention_blocks"], layer["norms"], strict=True):
            x = x + _attend(attention, norm(x))
        first, _, last = layer["ff"]["net"]
        value, gate = first["proj"](layer["ff_norm"](x)).chunk(2, dim=-1)
        x = x + last(value * functional.gelu(gate))
    return maps + block["proj_out"](x).unflatten(0, (height, width)).permute(2, 3, 0, 1)


def _attend(attention: Any, x: Tensor) -> Tensor:
    from torch.nn import functional

    x = x + attention["pos_encoder"].pe[:, : x.shape[1]].to(x.dtype)
    heads = (attention[f"to_{part}"](x).unflatten(2, (MOTION_HEADS, -1)).transpose(1, 2) for part in "qkv")
    mixed: Tensor = functional.scaled_dot_product_attention(*heads)
    return attention["to_out"][0](mixed.transpose(1, 2).flatten(2))


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample (T, C, h, w) bilinearly with aligned corners, as upstream does everywhere."""
    from torch.nn import functional

    return functional.interpolate(maps, size, mode="bilinear", align_corners=True)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample (T, h, w) to `size` (height, width)."""
    return _resize(maps[:, None], size)[:, 0]


__all__ = ["Shape", "build", "nearness", "over_time", "shape_of", "upsample"]
