"""Fine-tuning VACE through diffsynth's training API: its module, its split of the pipeline and its loss.

diffsynth trains in two parts (its `sft:data_process` and `sft:train`). The first runs the VAE and the text encoder once
per sample; the second needs the transformer alone. Both are here; the loop around them is `training.loop`.

Importing this module imports torch and diffsynth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
"""What stands before the names of its layers in the training module, and in no LoRA file."""

SHARED = ("vace_context", "input_latents")
PROMPT = ("context",)
"""What the first part leaves for the second: what VACE is shown and what it shall draw, in the VAE's latents, and the
prompt's embedding."""

_ASKED = ("height", "width", "num_frames", "vace_video", "vace_video_mask", "vace_scale")
_TILES = ("tiled", "tile_size", "tile_stride")


class Encoding(DiffusionTrainingModule):
    """The first part: a sample's pictures and prompt to latents.

    Args:
        pipe: WanVideoPipeline with the VAE and the text encoder; others may be missing.
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
        """Encode what the pipeline is asked for, and the clip that it shall answer.

        Args:
            request: of `models.vace.make_request`: the very one of the edit.
            target: uint8 (T, H, W, 3), of the request's size.

        Returns:
            `vace_context` (1, 96, t, h, w), `input_latents` (1, 16, t, h, w) and `context` (1, 512, text width), on the
            CPU.

        Raises:
            FatalError: diffsynth's pipeline no longer makes these.
        """
        from PIL import Image

        arguments = pipeline_arguments(request)
        shared = {name: arguments[name] for name in (*_ASKED, *(name for name in _TILES if name in arguments))}
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
        made = {name: inputs[0].get(name) for name in SHARED} | {name: inputs[1].get(name) for name in PROMPT}
        if missing := sorted(name for name, value in made.items() if not isinstance(value, torch.Tensor)):
            raise FatalError(f"diffsynth's pipeline made no {' and no '.join(missing)}: install diffsynth 2.1.12")
        return {name: value.detach().to("cpu").contiguous() for name, value in made.items()}


class LoraTraining(DiffusionTrainingModule):
    """The second part: the transformer with a LoRA on VACE's layers, and the loss of one sample.

    Args:
        pipe: WanVideoPipeline with the transformer and VACE; others may be missing.
        rank: of the LoRA; its alpha is the same.
        targets: which layers, by the ends of their names; those that fit none are passed over.
        checkpointing: `off`, `on` or `offload`: what is kept of a block for the way back: all, its input, or its input
            in main memory.
        control_scale: of the role's settings.
        seed: of the LoRA's first matrices; the second ones begin at zero.
    """

    def __init__(
        self, pipe: Any, *, rank: int, targets: Iterable[str], checkpointing: str, control_scale: float, seed: int
    ) -> None:
        super().__init__()
        self.pipe = pipe
        self.pipe = self.split_pipeline_units("sft:train", pipe, lora_base_model=TRAINED)
        torch.manual_seed(seed)
        self.switch_pipe_to_training_mode(
            pipe, lora_base_model=TRAINED, lora_target_modules=",".join(targets), lora_rank=rank, task="sft:train"
        )
        self._always = {
            "vace_scale": control_scale,
            "use_gradient_checkpointing": checkpointing != "off",
            "use_gradient_checkpointing_offload": checkpointing == "offload",
        }

    def forward(self, latents: Latents, seed: int, window: tuple[float, float] = (0.0, 1.0)) -> torch.Tensor:
        """Return the loss of one sample, a scalar.

        Args:
            latents: as `Encoding` made them.
            seed: of the noise and the timestep: the same seed measures the same.
            window: share of the timesteps that one is drawn from, 0 is the noisy end.
        """
        latents = self.transfer_data_to_device(latents, self.pipe.device, self.pipe.torch_dtype)
        shared = {name: latents[name] for name in SHARED} | self._always
        shared |= {"min_timestep_boundary": window[0], "max_timestep_boundary": window[1]}
        inputs: tuple[dict[str, Any], ...] = (shared, {name: latents[name] for name in PROMPT}, {})
        for unit in self.pipe.units:
            inputs = self.pipe.unit_runner(unit, self.pipe, *inputs)
        torch.manual_seed(seed)
        loss: torch.Tensor = FlowMatchSFTLoss(self.pipe, **inputs[0], **inputs[1])
        return loss

    def learned(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that learn, by the names that they have in a LoRA file."""
        return {name.removeprefix(PREFIX): value for name, value in self.named_parameters() if value.requires_grad}


class MasterWeights:
    """AdamW on copies in float32 of parameters of half precision: there, small steps would be rounded away.

    Args:
        learned: name to parameter.
        learning_rate: constant.
        weight_decay: AdamW's.
    """

    def __init__(self, learned: Mapping[str, torch.nn.Parameter], learning_rate: float, weight_decay: float) -> None:
        self._learned = dict(sorted(learned.items()))
        self._copies = {name: value.detach().float().clone() for name, value in self._learned.items()}
        self.optimizer = torch.optim.AdamW(list(self._copies.values()), lr=learning_rate, weight_decay=weight_decay)

    def step(self) -> float:
        """Step along the gradients, clear them, and return their norm."""
        for name, copy in self._copies.items():
            grad = self._learned[name].grad
            copy.grad = torch.zeros_like(copy) if grad is None else grad.detach().float()
            self._learned[name].grad = None
        norm = float(
            torch.nn.utils.get_total_norm([copy.grad for copy in self._copies.values() if copy.grad is not None])
        )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._write()
        return norm

    def state(self) -> Latents:
        """Everything that the next steps depend on, as tensors: `<layer>|weight` and AdamW's state."""
        found = {}
        for name, copy in self._copies.items():
            found[f"{name}|weight"] = copy
            for kind, value in self.optimizer.state.get(copy, {}).items():
                found[f"{name}|{kind}"] = value
        return {name: value.detach().to("cpu").contiguous().clone() for name, value in found.items()}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from what `state` returned."""
        kept: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in state.items():
            name, _, kind = key.rpartition("|")
            kept.setdefault(name, {})[kind] = value
        for name, copy in self._copies.items():
            values = kept[name]
            copy.copy_(values.pop("weight"))
            # AdamW keeps its count of steps on the CPU (torch.optim, `capturable`).
            self.optimizer.state[copy] = {
                kind: value.clone() if kind == "step" else value.to(copy, copy=True) for kind, value in values.items()
            }
        self._write()

    @torch.no_grad()
    def _write(self) -> None:
        for name, copy in self._copies.items():
            self._learned[name].copy_(copy)
