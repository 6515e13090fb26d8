"""Wan2.1 image-to-video: animates a still image (paper, section 3.2, stage 1), by diffsynth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ffpdata.media.geometry import check_clip
from ffpdata.models.lora_labels import wan_labels
from ffpdata.models.protocols import Edit
from ffpdata.models.requirements import Requirements
from ffpdata.models.settings import parse_settings
from ffpdata.models.wan.checkpoint_files import TRANSFORMER
from ffpdata.models.wan.pipeline_cache import shared_pipeline, wan_requirements
from ffpdata.models.wan.request import Request
from ffpdata.models.wan.settings import DiffsynthRuntime, DiffsynthSettings

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Image

PARTS = (TRANSFORMER, "text_encoder", "vae", "image_encoder")
"""Parts of an image-to-video checkpoint."""


class AnimatorSettings(DiffsynthSettings):
    """Settings of `WanAnimator`; steps and shift at 720p are those of Wan's generate.py (at 480p its shift is 3)."""

    steps: int = 40
    first_frame: Literal["generated", "image"] = "generated"
    """First frame of the clip: the model's own rendering of the image, which is consistent with the next frames, or the
    image itself, which differs from them by the VAE's error."""


class WanAnimator:
    """An `ImageToVideo` on Wan2.1-I2V-14B."""

    name = "wan_i2v"
    version: int = 1
    Settings = AnimatorSettings
    Runtime = DiffsynthRuntime

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        self._pipeline = shared_pipeline(spec, self.settings, PARTS)

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """Return its packages and checkpoints."""
        return wan_requirements(spec, parse_settings(cls.Settings, spec), PARTS)

    @classmethod
    def adapters(cls, spec: ModelSpec) -> tuple[str, ...]:
        """Return the labels of the role's LoRAs and of its attention kernel."""
        return wan_labels(parse_settings(cls.Settings, spec), spec.runtime.get("sequence_parallel", 1))

    def close(self) -> None:
        """Release the model; it is freed when no other role uses it."""
        self._pipeline.close()

    def animate(self, image: Image, *, prompt: str, frames: int, seed: int = 0) -> Edit:
        """Generate a clip that starts with `image`.

        Args:
            image: uint8 (H, W, 3) RGB; H and W are multiples of 16.
            prompt: the cinematic caption.
            frames: 4n+1.
            seed: of the noise.

        Returns:
            uint8 (frames, H, W, 3), and the fact `first_frame_drift`: mean difference of the generated first frame
            from the image, levels of 255.

        Raises:
            ConfigError: the model does not support the clip's size.
            GpuMemoryError: the clip does not fit the GPU.
            RetryableError: other processes fill the GPU.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise TypeError(f"an image must be uint8 (H, W, 3), found {image.dtype} {image.shape}")
        height, width = image.shape[:2]
        settings = self.settings
        check_clip(frames, height, width, model=type(self).__name__)
        answer = self._pipeline.generate(
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
        video = answer.frames
        drift = float(np.abs(video[0].astype(np.int16) - image).mean())
        if settings.first_frame == "image":
            video[0] = image
        return Edit(video, {"first_frame_drift": drift, **answer.facts})
