"""Fine-tune VACE through diffsynth's training API: its module, its split of the pipeline and its loss.

diffsynth trains in two parts (its `sft:data_process` and `sft:train`). The first runs the VAE and the text encoder once
per sample; the second needs the transformer alone. Both are here; the loop around them is `training.loop`.

Importing this module imports torch and diffsynth.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from diffsynth.diffusion.loss import FlowMatchSFTLoss
from diffsynth.diffusion.training_module import DiffusionTrainingModule

from ffpdata.core.errors import FatalError
from ffpdata.models.wan.engine import pipeline_arguments

if TYPE_CHECKING:
    from ffpdata.models.protocols import Frames
    from ffpdata.models.wan.request import Request

Latents = dict[str, torch.Tensor]

TRAINED = "vace"
"""The model of the pipeline that learns (diffsynth, examples/wanvideo/model_training/lora/Wan2.1-VACE-14B.sh)."""

PREFIX = f"pipe.{TRAINED}."
"""Prefix of its layers' names in the training module; LoRA files do not have it."""

LORA = "lora"
"""Stem of the LoRA's file."""

SHARED = ("vace_context", "input_latents")
PROMPT = ("context",)
"""Results of the first part for the second: latents of VACE's control input and of the target, and the prompt's
embedding."""

_REQUEST_ARGUMENTS = ("height", "width", "num_frames", "vace_video", "vace_video_mask", "vace_scale")
_TILES = ("tiled", "tile_size", "tile_stride")


class Encoding(DiffusionTrainingModule):
    """The first part: encode a sample's frames and prompt.

    Args:
        pipe: WanVideoPipeline with VAE and text encoder; other models may be missing.
    """

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.pipe = pipe
        self.pipe = self.split_pipeline_units(
            "sft:data_process",
            pipe,
            lora_base_model=TRAINED,
            remove_unnecessary_params=True,
            force_remove_params_shared=("latents",),  # noise, which is drawn anew in every step
        )
        self.switch_pipe_to_training_mode(pipe, lora_base_model=TRAINED, task="sft:data_process")

    @torch.no_grad()
    def forward(self, request: Request, target: Frames) -> Latents:
        """Encode the inputs of an edit and its target clip.

        Args:
            request: of `models.vace.make_request`, as for an edit.
            target: uint8 (T, H, W, 3), of the request's size.

        Returns:
            `vace_context` (1, 96, t, h, w), `input_latents` (1, 16, t, h, w) and `context` (1, 512, text width), on the
            CPU.

        Raises:
            FatalError: diffsynth's pipeline does not return these.
        """
        from PIL import Image

        arguments = pipeline_arguments(request)
        shared = {
            name: arguments[name] for name in (*_REQUEST_ARGUMENTS, *(name for name in _TILES if name in arguments))
        }
        shared |= {
            "input_video": [Image.fromarray(frame) for frame in target],
            "seed": request.seed,
            "rand_device": "cpu",
            "cfg_scale": 1,  # the negative prompt takes no part in training
            "cfg_merge": False,
        }
        inputs: tuple[dict[str, Any], ...] = (shared, {"prompt": request.prompt}, {})
        try:
            for unit in self.pipe.units:
                inputs = self.pipe.unit_runner(unit, self.pipe, *inputs)
        finally:
            self.pipe.vae.model.clear_cache()
        latents = {name: inputs[0].get(name) for name in SHARED} | {name: inputs[1].get(name) for name in PROMPT}
        if missing := sorted(name for name, value in latents.items() if not isinstance(value, torch.Tensor)):
            raise FatalError(f"diffsynth's pipeline made no {' and no '.join(missing)}: install diffsynth 2.1.12")
        return {name: value.detach().to("cpu").contiguous() for name, value in latents.items()}


class LoraTraining(DiffusionTrainingModule):
    """The second part: the transformer with a LoRA on VACE's layers, and the loss of one sample.

    Args:
        pipe: WanVideoPipeline with transformer and VACE; other models may be missing.
        rank: of the LoRA; its alpha is the same.
        targets: ends of the names of its layers; ends that fit no layer are skipped.
        checkpointing: `off`, `on` or `offload`: a block saves everything for the backward pass, only its input, or its
            input in main memory.
        control_scale: of the role's settings.
        seed: of the LoRA's down matrices; the up matrices start at zero.

    Attributes:
        terms: always empty: the loss has one part.
    """

    def __init__(
        self, pipe: Any, *, rank: int, targets: Iterable[str], checkpointing: str, control_scale: float, seed: int
    ) -> None:
        super().__init__()
        self.terms: dict[str, float] = {}
        self.pipe = pipe
        self.pipe = self.split_pipeline_units("sft:train", pipe, lora_base_model=TRAINED)
        torch.manual_seed(seed)
        self.switch_pipe_to_training_mode(
            pipe, lora_base_model=TRAINED, lora_target_modules=",".join(targets), lora_rank=rank, task="sft:train"
        )
        self._fixed_arguments = {
            "vace_scale": control_scale,
            "use_gradient_checkpointing": checkpointing != "off",
            "use_gradient_checkpointing_offload": checkpointing == "offload",
        }

    def forward(self, latents: Latents, seed: int, window: tuple[float, float] = (0.0, 1.0)) -> torch.Tensor:
        """Return the loss of one sample, a scalar.

        Args:
            latents: of `Encoding`.
            seed: of noise and timestep: the same seed gives the same loss.
            window: range of the timesteps to draw from, as fractions; 0 is the noisy end.
        """
        latents = self.transfer_data_to_device(latents, self.pipe.device, self.pipe.torch_dtype)
        shared = {name: latents[name] for name in SHARED} | self._fixed_arguments
        shared |= {"min_timestep_boundary": window[0], "max_timestep_boundary": window[1]}
        inputs: tuple[dict[str, Any], ...] = (shared, {name: latents[name] for name in PROMPT}, {})
        for unit in self.pipe.units:
            inputs = self.pipe.unit_runner(unit, self.pipe, *inputs)
        torch.manual_seed(seed)
        loss: torch.Tensor = FlowMatchSFTLoss(self.pipe, **inputs[0], **inputs[1])
        return loss

    def learned(self) -> dict[str, torch.nn.Parameter]:
        """Return the trained parameters by their names in a LoRA file."""
        return {name.removeprefix(PREFIX): value for name, value in self.named_parameters() if value.requires_grad}

    def parts(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        """Return the trained parameters by the stem of their file."""
        return {LORA: self.learned()}
