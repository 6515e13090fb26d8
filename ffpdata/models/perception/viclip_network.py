"""ViCLIP's network (Wang et al. 2023, InternVid): CLIP's two towers, the one for pictures looking at 8 frames at once.

Written anew after the published one (OpenGVLab/InternVideo, viclip, whose code is Apache-2.0). Modules bear its names:
the official state dict loads as it is. All sizes are read from the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ffpdata.core.errors import FatalError

if TYPE_CHECKING:
    from torch import Tensor, nn

HEAD_SIZE = 64
"""Channels per attention head of every CLIP."""

GELU_SLOPE = 1.702
"""Of CLIP's activation, x sigmoid(1.702 x)."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a checkpoint.

    Attributes:
        width: channels of the tower for clips.
        layers: its layers.
        patch: side of a patch, pixels.
        positions: position embeddings of a frame, that of the class token included.
        frames: positions in time.
        text_width: channels of the tower for texts.
        text_layers: its layers.
        tokens: of a text, the first and the last of them marks.
        vocabulary: number of tokens that there are.
        joint: length of the vectors of clips and texts.
    """

    width: int
    layers: int
    patch: int
    positions: int
    frames: int
    text_width: int
    text_layers: int
    tokens: int
    vocabulary: int
    joint: int

    @property
    def side(self) -> int:
        """Width and height of the frames that it sees, pixels."""
        return self.patch * round((self.positions - 1) ** 0.5)


def shape_of(state: Mapping[str, Tensor]) -> Shape:
    """Read the sizes from an official state dict.

    Raises:
        FatalError: it is of another architecture.
    """
    try:
        width, _, _, patch, _ = state["vision_encoder.conv1.weight"].shape
        _, frames, _ = state["vision_encoder.temporal_positional_embedding"].shape
        positions = len(state["vision_encoder.positional_embedding"])
        joint = state["vision_encoder.proj"].shape[1]
        tokens, text_width = state["text_encoder.positional_embedding"].shape
        vocabulary = len(state["text_encoder.token_embedding.weight"])
    except (KeyError, ValueError) as err:
        raise FatalError(f"not the weights of ViCLIP: {err} is missing or of another shape") from None
    layers = _layers(state, "vision_encoder")
    text_layers = _layers(state, "text_encoder")
    if width % HEAD_SIZE or text_width % HEAD_SIZE:
        raise FatalError(f"not the weights of ViCLIP: {width} and {text_width} channels, no multiples of {HEAD_SIZE}")
    return Shape(width, layers, patch, positions, frames, text_width, text_layers, tokens, vocabulary, joint)


def build(state: Mapping[str, Tensor]) -> nn.Module:
    """Build the network and load an official state dict into it, strictly.

    Args:
        state: names and shapes of `ViClip-InternVid-10M-FLT.pth`, under its key `model`, and of the safetensors file of
            OpenGVLab/ViCLIP-L-14-hf.

    Raises:
        FatalError: a weight is missing, unknown, or of another shape.
    """
    from torch import device

    shape = shape_of(state)
    with device("meta"):  # allocates no values that the weights would replace
        network = _network(shape)
    try:
        network.load_state_dict(dict(state), strict=True, assign=True)
    except RuntimeError as err:
        raise FatalError(f"not the weights of ViCLIP: {str(err)[:600]}") from err
    return network.float().eval().requires_grad_(requires_grad=False)


def clip_vector(network: Any, pixels: Tensor) -> Tensor:
    """Encode a clip, without the random masking of training.

    Args:
        network: as `build` returns it.
        pixels: float32 (T, 3, side, side), normalised; T is the number of positions in time.

    Returns:
        float32 (joint,), of any length.
    """
    import torch

    tower = network.vision_encoder
    # (T, 3, h, w) to tokens (T, patches, width); a kernel sees one frame
    patches = tower.conv1(pixels.transpose(0, 1)[None])[0].flatten(2).permute(1, 2, 0)
    patches = patches + tower.positional_embedding[1:] + tower.temporal_positional_embedding[0][:, None]
    start = tower.class_embedding + tower.positional_embedding[0]
    tokens = torch.cat([start[None], patches.flatten(0, 1)])[None]
    tokens = _through(tower.transformer, tower.ln_pre(tokens))
    found: Tensor = tower.ln_post(tokens)[0, 0] @ tower.proj
    return found


def text_vector(network: Any, tokens: Tensor) -> Tensor:
    """Encode a text.

    Args:
        network: as `build` returns it.
        tokens: int64 (tokens,), filled up by 0; the last mark has the highest number of the vocabulary.

    Returns:
        float32 (joint,), of any length.
    """
    import torch

    tower = network.text_encoder
    hidden = torch.ones(len(tokens), len(tokens), dtype=torch.bool, device=tokens.device).triu(1)
    states = (tower.token_embedding(tokens) + tower.positional_embedding)[None]
    states = tower.ln_final(_through(tower.transformer, states, hidden))
    found: Tensor = states[0, int(tokens.argmax())] @ tower.text_projection
    return found


def _through(transformer: Any, states: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Take states, (1, N, C), through all layers; `hidden`, bool (N, N), marks what a token may not look at."""
    import torch

    for block in transformer.resblocks:
        seen = block.ln_1(states)
        states = states + block.attn(seen, seen, seen, need_weights=False, attn_mask=hidden)[0]
        wide = block.mlp.c_fc(block.ln_2(states))
        states = states + block.mlp.c_proj(wide * torch.sigmoid(GELU_SLOPE * wide))
    return states


def _network(shape: Shape) -> nn.Module:
    import torch
    from torch import nn

    def parameter(*size: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(size))

    def holder(**parts: nn.Module | nn.Parameter) -> nn.Module:
        module = nn.Module()
        for name, part in parts.items():
            setattr(module, name, part)
        return module

    def transformer(width: int, layers: int) -> nn.Module:
        return holder(
            resblocks=nn.ModuleList(
                holder(
                    attn=nn.MultiheadAttention(width, width // HEAD_SIZE, batch_first=True),
                    ln_1=nn.LayerNorm(width),
                    mlp=holder(c_fc=nn.Linear(width, 4 * width), c_proj=nn.Linear(4 * width, width)),
                    ln_2=nn.LayerNorm(width),
                )
                for _ in range(layers)
            )
        )

    width, text_width = shape.width, shape.text_width
    kernel = (1, shape.patch, shape.patch)
    return holder(
        vision_encoder=holder(
            conv1=nn.Conv3d(3, width, kernel, kernel, bias=False),
            class_embedding=parameter(width),
            positional_embedding=parameter(shape.positions, width),
            temporal_positional_embedding=parameter(1, shape.frames, width),
            ln_pre=nn.LayerNorm(width),
            transformer=transformer(width, shape.layers),
            ln_post=nn.LayerNorm(width),
            proj=parameter(width, shape.joint),
        ),
        text_encoder=holder(
            token_embedding=nn.Embedding(shape.vocabulary, text_width),
            positional_embedding=parameter(shape.tokens, text_width),
            transformer=transformer(text_width, shape.text_layers),
            ln_final=nn.LayerNorm(text_width),
            text_projection=parameter(text_width, shape.joint),
        ),
        temp=parameter(),  # of the loss; no score depends on it
    )


def _layers(state: Mapping[str, Tensor], tower: str) -> int:
    pattern = rf"{tower}\.transformer\.resblocks\.(\d+)\."
    return len({found[1] for name in state if (found := re.match(pattern, name))})
