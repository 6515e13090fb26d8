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

from ffpdata.models.gpu_memory import clip_size, inference, release
from ffpdata.models.perception.pixels import batches, picture_processor, pixels
from ffpdata.models.perception.settings import REMEDY, EncoderRuntime, EncoderSettings, encoder_needs
from ffpdata.models.settings import parse_runtime, parse_settings
from ffpdata.models.weights import checkpoint_folder, pretrained_model, torch_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames
    from ffpdata.models.requirements import Requirements


class DinoV2:
    """A `FrameEncoder`: the class token after the last normalisation."""

    name = "dinov2"
    version: int = 1
    Settings = EncoderSettings
    Runtime = EncoderRuntime

    def __init__(self, spec: ModelSpec) -> None:
        from transformers import Dinov2Model

        settings = parse_settings(self.Settings, spec)
        self.batch = parse_runtime(self.Runtime, spec).batch
        self.device = torch_device(spec)
        folder = checkpoint_folder(spec.model, spec.revision)
        self.model = pretrained_model(Dinov2Model, folder, settings.dtype).to(self.device)
        self.processor = picture_processor(folder)

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """Return its packages and checkpoint."""
        return encoder_needs(spec)

    def close(self) -> None:
        """Free the model."""
        self.__dict__.pop("model", None)
        release(self.device)

    def encode_frames(self, frames: Frames) -> NDArray[np.float32]:
        """Return the class token of each frame, float32 (T, D); `frames` are uint8 (T, H, W, 3) RGB."""
        found = []
        with inference(self.device, f"DINOv2 on {clip_size(frames)}", REMEDY):
            for some in batches(frames, self.batch):
                values = pixels(self.processor, some).to(self.device, self.model.dtype)
                found.append(self.model(pixel_values=values).pooler_output.float().cpu().numpy())
        return np.concatenate(found)
