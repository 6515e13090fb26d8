"""What the image-to-video model is shown, in tuning and when it edits: one builder for both (section 3.3).

Importing this module imports torch.

The input is a concatenation of channels: noisy 16 | mask 4 | conditional video 16. The mask is 1 where a frame is kept.
The conditional video is the clip with what is not kept blank, 0 in the model's range of -1..1. With a mask that keeps
the first frame alone the channels are those that diffsynth's own unit makes of an image, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ffpdata.models.loraedit.region import CELL, cells, of_clip
from ffpdata.models.propagation.conditioning import CLIP_SHAPE, encode_image, encode_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.protocols import Frames, Image

    Masks = NDArray[np.bool_]

MASK_CHANNELS = 4
"""Frames that a latent stands for; the first latent stands for the first frame alone, whose mask is repeated."""


def folded(kept: Tensor) -> Tensor:
    """Return a mask of frames as the channels of latents (Wan's image-to-video input).

    Args:
        kept: (T, h, w), 1 where a frame is kept; T is 4n+1.

    Returns:
        (1, 4, F', h, w).
    """
    frames, height, width = kept.shape
    if frames % MASK_CHANNELS != 1:
        raise ValueError(f"{frames} frames: the model takes 4n+1")
    whole = torch.cat([kept[:1].expand(MASK_CHANNELS, height, width), kept[1:]])
    return whole.reshape(-1, MASK_CHANNELS, height, width).transpose(0, 1)[None]


def kept_latents(region: Masks) -> Tensor:
    """Return which latents are kept as a whole, that is in each of their frames: float (1, 1, F', h, w) of 0 and 1."""
    return folded(torch.from_numpy(~cells(of_clip(region))).float()).amin(dim=1, keepdim=True)


def encode_condition(pipe: Any, frames: Frames, region: Masks, *, tiles: Mapping[str, Any] | None = None) -> Tensor:
    """Return mask and conditional video.

    Args:
        pipe: WanVideoPipeline with a VAE.
        frames: uint8 (T, H, W, 3).
        region: bool (T, H, W), True is drawn anew; of whole cells of 8 x 8 pixels.
        tiles: `tiled`, `tile_size` and `tile_stride` of diffsynth's VAE.

    Returns:
        (1, 20, F', H / 8, W / 8) of the pipeline's type, on its device.
    """
    from PIL import Image as Picture

    kept = torch.from_numpy(~cells(region)).to(pipe.device).float()
    pipe.load_models_to_device(["vae"])
    video = pipe.preprocess_video([Picture.fromarray(frame) for frame in frames])
    shown = kept.repeat_interleave(CELL, dim=1).repeat_interleave(CELL, dim=2)
    video = video * shown.to(video)[None, None]
    latent = pipe.vae.encode(video, device=pipe.device, **(tiles or {}))
    return torch.cat([folded(kept).to(latent), latent], dim=1).to(dtype=pipe.torch_dtype, device=pipe.device)


def encode_inputs(
    pipe: Any,
    frames: Frames,
    region: Masks,
    image: Image,
    text: str,
    *,
    clip_embedding: bool,
    tiles: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Return the latents of `model_inputs`.

    Args:
        pipe: WanVideoPipeline with VAE, text encoder and, where it is wanted, image encoder.
        frames: as for `encode_condition`; in an edit with the edited first frame in place of the clip's own.
        region: likewise; of a clip that of `of_clip`.
        image: of CLIP's tokens, uint8 (H, W, 3): the first frame.
        text: with the special token.
        clip_embedding: whether CLIP is asked.
        tiles: as for `encode_condition`.
    """
    context, length = encode_text(pipe, text)
    latents = {
        "condition": encode_condition(pipe, frames, region, tiles=tiles),
        "context": context,
        "context_length": length,
    }
    if clip_embedding:
        latents["clip_feature"] = encode_image(pipe, image)
    return latents


def model_inputs(latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the arguments of diffsynth's `model_fn` that do not change from step to step.

    Args:
        latents: of `encode_inputs`; without `clip_feature` the image tokens are zeros.
    """
    context, condition = latents["context"], latents["condition"]
    length = int(latents["context_length"]) - context.shape[1]
    clip = latents.get("clip_feature")
    return {
        "y": condition,
        "context": torch.nn.functional.pad(context, (0, 0, 0, length)),
        "clip_feature": condition.new_zeros(CLIP_SHAPE) if clip is None else clip,
    }
