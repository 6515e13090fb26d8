"""CLIP (Radford et al. 2021) by transformers: frames and texts in one space.

In a profile:

    image_text_encoder:
      backend: ffpdata.models.perception.clip:Clip
      model: openai/clip-vit-large-patch14
      licence: MIT
      runtime: {device: cuda}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.models.gpu_memory import clip_size, inference
from ffpdata.models.perception.encoder import TransformersEncoder
from ffpdata.models.perception.pixels import batches, picture_processor, pixels
from ffpdata.models.perception.settings import REMEDY
from ffpdata.models.protocols import FrameFeatures
from ffpdata.models.weights import from_pretrained

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames

    Floats = NDArray[np.float32]

TEXT_TOKENS = 77
"""Tokens of a text, the first and the last of them marks; what is longer is cut (CLIP's own context)."""


class Clip(TransformersEncoder):
    """An `ImageTextEncoder`."""

    name = "clip"
    version: int = 1

    def __init__(self, spec: ModelSpec) -> None:
        from transformers import AutoTokenizer, CLIPModel

        folder = self.load(spec, CLIPModel)
        self.processor = picture_processor(folder)
        self.tokenizer = from_pretrained(AutoTokenizer, folder)
        self.logit_scale = scale_of(self.model)

    def encode_frames(self, frames: Frames) -> FrameFeatures:
        """Encode frames.

        Args:
            frames: uint8 (T, H, W, 3) RGB.

        Returns:
            What the vision tower makes of each, and its projection into the space of texts.
        """
        with inference(self.device, f"CLIP on {clip_size(frames)}", REMEDY):
            parts = [image_features(self.model, pixels(self.processor, some)) for some in batches(frames, self.batch)]
        return FrameFeatures(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def encode_text(self, text: str) -> Floats:
        """Encode a text; beyond 77 tokens it is cut. Returns float32 (D,), of length 1."""
        with inference(self.device, "CLIP on a text", REMEDY):
            return text_features(self.model, self.tokenizer, text)


def scale_of(model: Any) -> float:
    """Return the factor by which a CLIP model multiplies its cosines: 100 for all that were published."""
    return float(model.logit_scale.detach().float().exp())


def image_features(model: Any, values: torch.Tensor) -> tuple[Floats, Floats]:
    """Return the vision tower's pooled output, (N, width), and its projection, (N, D), of length 1.

    Args:
        model: a `CLIPModel`.
        values: float32 (N, 3, h, w), as `pixels` returns it.
    """
    pooled = model.vision_model(pixel_values=values.to(model.device, model.dtype)).pooler_output
    return pooled.float().cpu().numpy(), unit(model.visual_projection(pooled))


def text_features(model: Any, tokenizer: Any, text: str) -> Floats:
    """Return the projection of a text, float32 (D,), of length 1."""
    tokens = tokenizer([text], padding=True, truncation=True, max_length=TEXT_TOKENS, return_tensors="pt")
    given = {name: tokens[name].to(model.device) for name in ("input_ids", "attention_mask")}
    return unit(model.text_projection(model.text_model(**given).pooler_output))[0]


def unit(vectors: torch.Tensor) -> Floats:
    """Return vectors (N, D) at length 1, as float32 on the CPU."""
    found = vectors.float()
    scaled: Floats = (found / found.norm(dim=-1, keepdim=True)).cpu().numpy()
    return scaled
