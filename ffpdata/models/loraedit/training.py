"""Tune the image-to-video model to a clip: latents of a sample, and its loss (LoRA-Edit, section 3.3).

Importing this module imports torch and diffsynth.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffsynth.diffusion.training_module import DiffusionTrainingModule
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ffpdata.core.errors import FatalError
from ffpdata.models.loraedit.conditioning import MASK_CHANNELS, encode_inputs, model_inputs
from ffpdata.models.propagation.conditioning import encode_video

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ffpdata.models.loraedit.settings import TuningSettings
    from ffpdata.models.protocols import Frames

    Masks = NDArray[np.bool_]

Latents = dict[str, Tensor]

LORA = "lora"
"""Stem of the LoRA's file."""

TIMESTEPS = 1000
"""Largest timestep of Wan: that of pure noise."""

_PIPE = "pipe.dit."


class LoraEditEncoding:
    """Encodes samples.

    Args:
        pipe: WanVideoPipeline with VAE, text encoder and, where it is wanted, image encoder.
        clip_embedding: whether CLIP is asked.
    """

    def __init__(self, pipe: Any, *, clip_embedding: bool) -> None:
        self.pipe, self._clip = pipe, clip_embedding

    def __call__(self, frames: Frames, region: Masks, target: Frames, text: str) -> Latents:
        """Return the latents of a sample on the CPU.

        Args:
            frames: what is shown outside the region, uint8 (T, H, W, 3); its first frame is CLIP's.
            region: what is blank, bool (T, H, W).
            target: what is learned, of the size of `frames`: they are one for the clip itself.
            text: with the special token.
        """
        with torch.no_grad():
            try:
                latents = encode_inputs(self.pipe, frames, region, frames[0], text, clip_embedding=self._clip)
                latents["target"] = encode_video(self.pipe, target)
            finally:
                self.pipe.vae.model.clear_cache()
        return {name: value.detach().to("cpu").contiguous() for name, value in latents.items()}


class LoraEditTraining(DiffusionTrainingModule):
    """The transformer with a LoRA on its attention, and the loss of one sample.

    Args:
        pipe: WanVideoPipeline with an image-to-video transformer, which is changed; other models may be missing.
        settings: of the tuning.
        begin: file of the LoRA that it goes on from; empty starts from none.

    Attributes:
        terms: `timestep` of the last loss.

    Raises:
        FatalError: the transformer is not one of image-to-video, or `begin` does not fit it.
    """

    def __init__(self, pipe: Any, *, settings: TuningSettings, begin: str = "") -> None:
        super().__init__()
        self.pipe, self._checkpointing = pipe, settings.gradient_checkpointing
        self.terms: dict[str, float] = {}
        check_transformer(pipe.dit)
        pipe.freeze_except([])
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self.add_lora_to_model(
                pipe.dit,
                target_modules=list(settings.layers),
                lora_rank=settings.rank,
                upcast_dtype=pipe.torch_dtype,
            )
        if begin:
            self._load(Path(begin))

    def _load(self, path: Path) -> None:
        try:
            state = load_file(path)
        except (SafetensorError, OSError) as err:
            raise FatalError(f"{path}: not a readable safetensors file ({err})") from err
        own = self.learned()
        if {name: value.shape for name, value in state.items()} != {name: value.shape for name, value in own.items()}:
            raise FatalError(f"{path}: not a LoRA of this rank on these layers: it is of another tuning")
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)

    def forward(self, latents: Latents, seed: int, window: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """Return the loss of one sample, a scalar: flow matching at a uniform timestep, as in the authors' code.

        Args:
            latents: of `LoraEditEncoding`.
            seed: of noise and timestep: the same seed gives the same loss.
            window: part of the timesteps to draw from, as fractions; 0 is the noisy end.
        """
        latents = self.transfer_data_to_device(latents, self.pipe.device, self.pipe.torch_dtype)
        target = latents["target"]
        draws = torch.Generator().manual_seed(seed)
        place = window[0] + (window[1] - window[0]) * float(torch.rand((), generator=draws))
        sigma = 1 - place
        noise = torch.randn(target.shape, generator=draws).to(target.device)
        noisy = ((1 - sigma) * target.float() + sigma * noise).to(target.dtype)
        timestep = torch.full((1,), TIMESTEPS * sigma, device=self.pipe.device, dtype=self.pipe.torch_dtype)
        checkpointing = self._checkpointing if torch.is_grad_enabled() else "off"
        predicted: Tensor = self.pipe.model_fn(
            dit=self.pipe.dit,
            latents=noisy,
            timestep=timestep,
            use_gradient_checkpointing=checkpointing != "off",
            use_gradient_checkpointing_offload=checkpointing == "offload",
            **model_inputs(latents),
        )
        self.terms = {"timestep": TIMESTEPS * sigma}
        return torch.nn.functional.mse_loss(predicted.float(), noise - target.float())

    def learned(self) -> dict[str, torch.nn.Parameter]:
        """Return the trained parameters by their names in a LoRA file."""
        return {name.removeprefix(_PIPE): value for name, value in self.named_parameters() if value.requires_grad}

    def parts(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        """Return the trained parameters by the stem of their file."""
        return {LORA: self.learned()}


def check_transformer(dit: Any) -> None:
    """Raise FatalError for a transformer whose input is not noisy, mask and conditional video."""
    latent = dit.head.head.out_features // math.prod(dit.patch_size)
    wanted = 2 * latent + MASK_CHANNELS
    if dit.in_dim != wanted:
        raise FatalError(
            f"the transformer takes {dit.in_dim} channels, one of image-to-video {wanted}: name a checkpoint as "
            "Wan-AI/Wan2.1-I2V-14B-480P"
        )
