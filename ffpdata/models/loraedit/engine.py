"""Edit a clip with a model that was tuned to it: its edited first frame and the region to frames.

Importing this module imports torch and diffsynth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ffpdata.models.gpu_memory import gpu_memory
from ffpdata.models.loraedit.conditioning import MASK_CHANNELS, encode_inputs, kept_latents, model_inputs
from ffpdata.models.loraedit.region import of_clip
from ffpdata.models.loraedit.training import check_transformer
from ffpdata.models.propagation.conditioning import encode_text, encode_video
from ffpdata.models.propagation.sampling import Held, Sampling, denoise
from ffpdata.models.wan.attention import resolve, using
from ffpdata.models.wan.engine import DiffsynthEngine, to_frames
from ffpdata.models.wan.loading import LoadPlan, stdout_to_stderr
from ffpdata.models.wan.settings import REMEDY

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ffpdata.models.loraedit.settings import LoraEditSettings
    from ffpdata.models.protocols import Frames, Image
    from ffpdata.models.wan.settings import Lora

    Masks = NDArray[np.bool_]


class LoraEditEngine(DiffsynthEngine):
    """An image-to-video pipeline in this process.

    Args:
        plan: of the base.
        settings: of the role.

    Raises:
        FatalError: the base is not one of image-to-video.
    """

    def __init__(self, plan: LoadPlan, settings: LoraEditSettings) -> None:
        super().__init__(plan)
        self.settings = settings
        check_transformer(self.pipe.dit)

    def edit(
        self,
        frames: Frames,
        edited_first_frame: Image,
        region: Masks,
        *,
        prompt: str,
        negative: str,
        seed: int,
        loras: Sequence[Lora],
    ) -> Frames:
        """Return the edited clip, uint8 (T, H, W, 3), as the VAE draws it.

        Args:
            frames: uint8 (T, H, W, 3).
            edited_first_frame: uint8 (H, W, 3).
            region: bool (T, H, W), of whole cells of 8 x 8 pixels; its first frame says nothing.
            prompt: of the edited clip, with the special token.
            negative: what it shall not show.
            seed: of the noise.
            loras: that of the clip, and the role's.

        Raises:
            As `DiffsynthEngine.run`.
        """
        if self.pipe is None:
            raise RuntimeError("the model was closed")
        settings = self.settings
        cut: dict[str, Any] = {"tiled": settings.tiles is not None}
        if settings.tiles is not None:
            cut |= {"tile_size": settings.tiles.size, "tile_stride": settings.tiles.stride}
        shown = frames.copy()
        shown[0] = edited_first_frame
        what = f"{frames.shape[2]} x {frames.shape[1]} x {len(frames)}"
        with (
            torch.no_grad(),
            stdout_to_stderr(),
            gpu_memory(self.device, what, REMEDY),
            using(resolve(settings.attention, self.plan.ranks)),
        ):
            self.use_loras(loras)
            try:
                latents = encode_inputs(
                    self.pipe,
                    shown,
                    of_clip(region),
                    edited_first_frame,
                    prompt,
                    clip_embedding=settings.clip_embedding == "on",
                    tiles=cut,
                )
                inputs, others = model_inputs(latents), None
                if settings.guidance != 1:
                    away = {**latents, "context": encode_text(self.pipe, negative)[0]}
                    others = {**inputs, "context": model_inputs(away)["context"]}
                held = None if settings.background == "model" else self._held(frames, edited_first_frame, region, cut)
                sampling = Sampling(settings.steps, settings.guidance, settings.shift)
                shape = (1, latents["condition"].shape[1] - MASK_CHANNELS, *latents["condition"].shape[2:])
                found = denoise(self.pipe, inputs, others, shape, seed=seed, sampling=sampling, held=held)
                self._clear_vae_cache()
                self.pipe.load_models_to_device(["vae"])
                video = self.pipe.vae.decode(found, device=self.device, **cut)
                self.pipe.load_models_to_device([])
            finally:
                self._clear_vae_cache()
            return to_frames(video)

    def _held(self, frames: Frames, edited_first_frame: Image, region: Masks, cut: dict[str, Any]) -> Held:
        """Return the edited first frame and, outside the region, the source's latents."""
        latent = encode_video(self.pipe, frames, tiles=cut)
        latent[:, :, :1] = encode_video(self.pipe, edited_first_frame[None], tiles=cut)
        return Held(latent, kept_latents(region).to(latent.device))
