"""PickScore (Kirstain et al. 2023): a CLIP that was trained on which of two pictures people preferred for a text.

In a profile:

    preference_scorer:
      backend: ffpdata.models.perception.pickscore:PickScore
      model: yuvalkirstain/PickScore_v1
      licence: MIT
      settings: {processor: laion/CLIP-ViT-H-14-laion2B-s32B-b79K}
      runtime: {device: cuda}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffpdata.models.gpu_memory import clip_size, inference
from ffpdata.models.perception.clip import image_features, scale_of, text_features
from ffpdata.models.perception.encoder import TransformersEncoder
from ffpdata.models.perception.pixels import batches, picture_processor, pixels
from ffpdata.models.perception.settings import (
    REMEDY,
    TEXT_FILES,
    EncoderSettings,
    encoder_needs,
)
from ffpdata.models.requirements import Checkpoint
from ffpdata.models.settings import parse_settings
from ffpdata.models.weights import checkpoint_folder, from_pretrained

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as Picture

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames, Image
    from ffpdata.models.requirements import Requirements

MAX_SIDE = 672
"""Long side above which a frame is reduced before the processor sees it, as in EditVerse's evaluation."""


class PickScoreSettings(EncoderSettings):
    """Settings of `PickScore`."""

    processor: str = ""
    """Checkpoint whose processor and tokenizer it takes: those of the CLIP that it was trained from. The model's own
    folder where unset."""
    processor_revision: str = ""


class PickScore(TransformersEncoder):
    """A `PreferenceScorer`; about 19 to 21 for real pictures and texts."""

    name = "pickscore"
    version: int = 1
    Settings = PickScoreSettings

    def __init__(self, spec: ModelSpec) -> None:
        from transformers import AutoTokenizer, CLIPModel

        settings, folder = parse_settings(self.Settings, spec), self.load(spec, CLIPModel)
        if settings.processor:
            folder = checkpoint_folder(settings.processor, settings.processor_revision, patterns=TEXT_FILES)
        self.processor = picture_processor(folder)
        self.tokenizer = from_pretrained(AutoTokenizer, folder)
        self.logit_scale = scale_of(self.model)

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """Return its packages, its checkpoint and that of its processor."""
        settings = parse_settings(cls.Settings, spec)
        if not settings.processor:
            return encoder_needs(spec)
        processor = Checkpoint("processor", settings.processor, settings.processor_revision, TEXT_FILES, None)
        return encoder_needs(spec, processor)

    def score(self, frames: Frames, text: str) -> NDArray[np.float32]:
        """Return the score of each frame for a text, float32 (T,).

        Args:
            frames: uint8 (T, H, W, 3) RGB.
            text: what they should show; beyond 77 tokens it is cut.
        """
        found = []
        with inference(self.device, f"PickScore on {clip_size(frames)}", REMEDY):
            wanted = text_features(self.model, self.tokenizer, text)
            for some in batches(frames, self.batch):
                values = pixels(self.processor, [reduced(frame) for frame in some])
                found.append(self.logit_scale * image_features(self.model, values)[1] @ wanted)
        return np.concatenate(found).astype(np.float32)


def reduced(frame: Image) -> Picture:
    """Return a frame whose long side is at most `MAX_SIDE`, by PIL's bicubic filter; sides are cut to whole pixels."""
    import PIL.Image

    picture = PIL.Image.fromarray(frame)
    scale = MAX_SIDE / max(picture.size)
    if scale >= 1:
        return picture
    return picture.resize((int(scale * picture.width), int(scale * picture.height)), PIL.Image.Resampling.BICUBIC)
