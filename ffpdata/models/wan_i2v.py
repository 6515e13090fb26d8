"""Wan2.1 image-to-video: makes a clip of a still (paper, section 3.2, stage 1), by diffsynth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ffpdata.media.geometry import check_clip
from ffpdata.models.lora_labels import lora_labels
from ffpdata.models.protocols import Edit
from ffpdata.models.requirements import Requirements
from ffpdata.models.settings import parse_settings
from ffpdata.models.wan.checkpoint_files import TRANSFORMER
from ffpdata.models.wan.pipeline_cache import hold, wan_needs
from ffpdata.models.wan.request import Request
from ffpdata.models.wan.settings import DiffsynthRuntime, DiffsynthSettings

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Image

PARTS = (TRANSFORMER, "text_encoder", "vae", "image_encoder")
"""What an image-to-video checkpoint is made of."""


class AnimatorSettings(DiffsynthSettings):
    """Settings of `WanAnimator`; steps and shift at 720p are those of Wan's generate.py (at 480p its shift is 3)."""

    steps: int = 40
    first_frame: Literal["generated", "image"] = "generated"
    """What the clip begins with: the model's own rendering of the image, which belongs to the frames after it, or the
    image itself, which may differ from them as the VAE does."""


class WanAnimator:
    """An `ImageToVideo` on Wan2.1-I2V-14B."""

    name = "wan_i2v"
    version: int = 1
    Settings = AnimatorSettings
    Runtime = DiffsynthRuntime

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        self._held = hold(spec, self.settings, PARTS)

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """What must be there for it."""
        return wan_needs(spec, parse_settings(cls.Settings, spec), PARTS)

    @classmethod
    def adapters(cls, spec: ModelSpec) -> tuple[str, ...]:
        """The LoRAs that lie over the model."""
        return lora_labels(parse_settings(cls.Settings, spec).loras)

    def close(self) -> None:
        """Free the model."""
        self._held.close()

    def animate(self, image: Image, *, prompt: str, frames: int, seed: int = 0) -> Edit:
        """Make a clip that begins with `image`.

        Args:
            image: uint8 (H, W, 3) RGB; H and W are multiples of 16.
            prompt: the cinematic caption.
            frames: 4n+1.
            seed: of the noise.

        Returns:
            uint8 (frames, H, W, 3), and the fact `first_frame_drift`: mean difference of the generated first frame
            from the image, levels of 255.

        Raises:
            ConfigError: a size that the model does not take.
            GpuMemoryError: the clip does not fit the GPU.
            RetryableError: others fill the GPU.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise TypeError(f"an image must be uint8 (H, W, 3), found {image.dtype} {image.shape}")
        height, width = image.shape[:2]
        settings = self.settings
        check_clip(frames, height, width, model=type(self).__name__)
        made = self._held.generate(
            Request(
                prompt=prompt,
                negative=settings.negative,
                seed=seed,
                height=height,
                width=width,
                frames=frames,
                first_image=image,
                **settings.sampling(),
            )
        )
        drift = float(np.abs(made[0].astype(np.int16) - image).mean())
        if settings.first_frame == "image":
            made[0] = image
        return Edit(made, {"first_frame_drift": drift})
