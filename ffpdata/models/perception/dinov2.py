"""DINOv2 (Oquab et al. 2023) by transformers: how frames look, without words.

In a profile:

    frame_encoder:
      backend: ffpdata.models.perception.dinov2:DinoV2
      model: facebook/dinov2-base
      licence: Apache-2.0
      runtime: {device: cuda}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffpdata.models.gpu_memory import clip_size, inference
from ffpdata.models.perception.encoder import TransformersEncoder
from ffpdata.models.perception.pixels import batches, picture_processor, pixels
from ffpdata.models.perception.settings import REMEDY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames


class DinoV2(TransformersEncoder):
    """A `FrameEncoder`: the class token after the last normalisation."""

    name = "dinov2"
    version: int = 1

    def __init__(self, spec: ModelSpec) -> None:
        from transformers import Dinov2Model

        self.processor = picture_processor(self.load(spec, Dinov2Model))

    def encode_frames(self, frames: Frames) -> NDArray[np.float32]:
        """Return the class token of each frame, float32 (T, D); `frames` are uint8 (T, H, W, 3) RGB."""
        found = []
        with inference(self.device, f"DINOv2 on {clip_size(frames)}", REMEDY):
            for some in batches(frames, self.batch):
                values = pixels(self.processor, some).to(self.device, self.model.dtype)
                found.append(self.model(pixel_values=values).pooler_output.float().cpu().numpy())
        return np.concatenate(found)
