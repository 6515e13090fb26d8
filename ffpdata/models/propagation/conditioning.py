"""What the transformer is shown, in training and when it is asked: one builder for both.

Importing this module imports torch.

The input is a concatenation of channels, in Fun-Control's order with the mask of section 4.1 before the image:

    noisy z | source z | mask m | first frame z          (z of the VAE: 16 for Wan; m of the settings)

The edited first frame is encoded alone, as one frame, and padded with zero latents (VideoX-Fun and the paper).
diffsynth encodes it with grey frames behind it instead, whose latents are not zero: Fun-Control was trained on others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ffpdata.models.propagation.settings import PropagationSettings
    from ffpdata.models.protocols import Frames, Image

CLIP_SHAPE = (1, 257, 1280)
"""Tokens of CLIP ViT-H (diffsynth, pipelines/wan_video.py: WanVideoUnit_FunControl)."""


def condition(source: Tensor, first_frame: Tensor, mask_channels: int) -> Tensor:
    """Return the channels behind the noisy ones.

    Args:
        source: latent of the source clip, (1, z, F', H', W').
        first_frame: latent of the edited first frame alone, (1, z, 1, H', W').
        mask_channels: of the settings.

    Returns:
        (1, 2z + mask_channels, F', H', W'): source, mask (1 on frame 0), first frame and zeros.
    """
    mask = source.new_zeros(1, mask_channels, *source.shape[2:])
    mask[:, :, 0] = 1
    padded = torch.zeros_like(source)
    padded[:, :, :1] = first_frame
    return torch.cat([source, mask, padded], dim=1)


def model_inputs(latents: Mapping[str, Tensor], settings: PropagationSettings) -> dict[str, Tensor]:
    """Return the arguments of diffsynth's `model_fn` that do not change from step to step.

    Args:
        latents: `source` and `first_frame` as for `condition`; `context` (1, n, text width), the text's tokens without
            their padding, and `context_length`, the number with it; `clip_feature` (1, 257, 1280) where the settings
            want CLIP.
        settings: of the model.
    """
    source, context = latents["source"], latents["context"]
    length = int(latents["context_length"]) - context.shape[1]
    inputs = {
        "y": condition(source, latents["first_frame"], settings.mask_channels),
        "context": torch.nn.functional.pad(context, (0, 0, 0, length)),
    }
    if settings.clip_embedding == "on":
        inputs["clip_feature"] = latents["clip_feature"]
    else:
        inputs["clip_feature"] = source.new_zeros(CLIP_SHAPE)
    if settings.reference_tokens == "zero":
        inputs["reference_latents"] = torch.zeros_like(source[:, :, 0])
    return inputs


def encode_video(pipe: Any, frames: Frames, *, tiles: Mapping[str, Any] | None = None) -> Tensor:
    """Return the VAE's latent of a clip, or of one image as a clip of one frame.

    Args:
        pipe: WanVideoPipeline with a VAE.
        frames: uint8 (T, H, W, 3).
        tiles: `tiled`, `tile_size` and `tile_stride` of diffsynth's VAE.

    Returns:
        (1, z, (T - 1) / 4 + 1, H / 8, W / 8) of the pipeline's type, on its device.
    """
    from PIL import Image

    pipe.load_models_to_device(["vae"])
    video = pipe.preprocess_video([Image.fromarray(frame) for frame in frames])
    return pipe.vae.encode(video, device=pipe.device, **(tiles or {})).to(dtype=pipe.torch_dtype, device=pipe.device)


def encode_text(pipe: Any, text: str) -> tuple[Tensor, Tensor]:
    """Return a text's tokens without their padding, (1, n, text width), and their number with it, int64 ()."""
    pipe.load_models_to_device(["text_encoder"])
    ids, mask = pipe.tokenizer(text, return_mask=True, add_special_tokens=True)
    tokens = pipe.text_encoder(ids.to(pipe.device), mask.to(pipe.device))
    return tokens[:, : int(mask.sum())], torch.tensor(tokens.shape[1])


def encode_image(pipe: Any, image: Image) -> Tensor:
    """Return CLIP's tokens of an image uint8 (H, W, 3): (1, 257, 1280)."""
    from PIL import Image as Picture

    pipe.load_models_to_device(["image_encoder"])
    prepared = pipe.preprocess_image(Picture.fromarray(image)).to(pipe.device)
    return pipe.image_encoder.encode_image([prepared]).to(dtype=pipe.torch_dtype, device=pipe.device)


def encode_inputs(
    pipe: Any,
    source: Frames,
    edited_first_frame: Image,
    text: str,
    settings: PropagationSettings,
    *,
    tiles: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Return the latents of `model_inputs`.

    Args:
        pipe: WanVideoPipeline with VAE, text encoder and, where the settings want CLIP, image encoder.
        source: uint8 (T, H, W, 3).
        edited_first_frame: uint8 (H, W, 3), of the clip's size.
        text: what the edited clip shows.
        settings: of the model.
        tiles: as for `encode_video`.
    """
    context, length = encode_text(pipe, text)
    latents = {
        "source": encode_video(pipe, source, tiles=tiles),
        "first_frame": encode_video(pipe, edited_first_frame[None], tiles=tiles),
        "context": context,
        "context_length": length,
    }
    if settings.clip_embedding == "on":
        latents["clip_feature"] = encode_image(pipe, edited_first_frame)
    return latents
