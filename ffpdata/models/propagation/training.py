"""Train FreeProp: latents of a pair, and the loss of one sample (paper, sections 4 and 5.1).

Importing this module imports torch and diffsynth.

A trainer needs two things of here. `PropagationEncoding` turns frames and text into latents, which may be cached.
`PropagationTraining` is a module whose forward pass is the loss of one sample: `forward(latents, seed, window)`, with
the parts of the last loss in `terms`. `learned()` names what is trained, `parts()` says by which file it is saved:
`lora`, and `propagation` for the mask's columns and the predictor of AST-RoPE. `close()` removes its hooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from diffsynth.diffusion import FlowMatchScheduler
from diffsynth.diffusion.training_module import DiffusionTrainingModule
from torch import Tensor

from ffpdata.core.errors import ConfigError
from ffpdata.models.propagation.alpha_predictor import AlphaPredictor
from ffpdata.models.propagation.ast_rope import AstRope
from ffpdata.models.propagation.conditioning import encode_inputs, encode_text, encode_video, model_inputs
from ffpdata.models.propagation.distillation import Tap, mmd_loss, motion_loss, pooled, tapped
from ffpdata.models.propagation.patch_embedding import STATE, WidenedPatchEmbedding, prepare
from ffpdata.models.propagation.sampling import leading_tokens

if TYPE_CHECKING:
    from ffpdata.models.propagation.settings import PropagationSettings
    from ffpdata.models.protocols import Frames, Image

Latents = dict[str, Tensor]
Heads = Sequence[Sequence[bool]]

LORA, PROPAGATION, TRANSFORMER = "lora", "propagation", "transformer"
"""Stems of the files of a trained model; the last in place of the first where every weight is trained."""

PREDICTOR = "predictor."
"""Prefix of the predictor's parameters in their file."""

_PIPE = "pipe.dit."


class PropagationEncoding:
    """Encodes pairs.

    Args:
        pipe: WanVideoPipeline with VAE, text encoder and, where the settings want CLIP, image encoder.
        settings: of the model.
    """

    def __init__(self, pipe: Any, settings: PropagationSettings) -> None:
        self.pipe, self.settings = pipe, settings

    @torch.no_grad()
    def __call__(self, source: Frames, target: Frames, edited_first_frame: Image, text: str) -> Latents:
        """Return the latents of a pair on the CPU.

        Args:
            source: uint8 (T, H, W, 3), as long as the settings' `frames`.
            target: of the same shape.
            edited_first_frame: uint8 (H, W, 3), frame 0 of the target before it was encoded as a video.
            text: what the target shows.

        Returns:
            `source`, `target` (1, 16, F', H', W'), `first_frame` (1, 16, 1, H', W'), `context` and `empty_context`
            (1, n, text width), `context_length` (int64), and `clip_feature` (1, 257, 1280) where it is wanted.

        Raises:
            ValueError: the arrays do not fit each other or the settings.
        """
        shape = (self.settings.frames, *source.shape[1:])
        if not source.shape == target.shape == shape or edited_first_frame.shape != shape[1:]:
            raise ValueError(
                f"source {source.shape}, target {target.shape} and first frame {edited_first_frame.shape} must be one "
                f"size, of {self.settings.frames} frames"
            )
        try:
            latents = encode_inputs(self.pipe, source, edited_first_frame, text, self.settings)
            latents["target"] = encode_video(self.pipe, target)
            latents["empty_context"] = encode_text(self.pipe, "")[0]
        finally:
            self.pipe.vae.model.clear_cache()
        return {name: value.detach().to("cpu").contiguous() for name, value in latents.items()}


class PropagationTraining(DiffusionTrainingModule):
    """The transformer with what is trained of it, and the loss of one sample.

    Args:
        pipe: WanVideoPipeline with a Fun-Control transformer, which is changed; other models may be missing.
        settings: of the model.
        heads: per layer and head whether it is temporal; None without AST-RoPE.
        seed: of the weights that start at random.

    Attributes:
        terms: parts of the last loss: `flow_matching` (without the weight of its timestep), `timestep`; with AST-RoPE
            `alpha_s` and `alpha_t`; with distillation `motion` and `mmd`, without their weights; `identity` 1 where the
            sample was one of the identity task.

    Raises:
        ConfigError: AST-RoPE without `heads`, or with those of another transformer.
        FatalError: the transformer is not one of Fun-Control.
    """

    def __init__(self, pipe: Any, *, settings: PropagationSettings, heads: Heads | None, seed: int) -> None:
        super().__init__()
        if settings.ast_rope and heads is None:
            raise ConfigError("AST-RoPE needs the classes of the heads: make them by `ffpdata heads`")
        self.pipe, self.settings = pipe, settings
        self.terms: dict[str, float] = {}
        pipe.freeze_except([])
        self._schedule = FlowMatchScheduler("Wan")
        self._schedule.set_timesteps(STEPS, training=True, shift=settings.shift)
        channels = pipe.dit.in_dim // 3
        prepare(pipe.dit, settings)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.predictor = AlphaPredictor(channels, settings).to(pipe.device) if settings.ast_rope else None
            self._adapt()
        self._tap = settings.tapped(len(pipe.dit.blocks)) if settings.distillation else 0
        self._rope = AstRope(pipe.dit, heads) if settings.ast_rope and heads is not None else None

    def _adapt(self) -> None:
        """Make what is trained trainable, and nothing else."""
        dit, settings = self.pipe.dit, self.settings
        if settings.rank:
            self.add_lora_to_model(
                dit, target_modules=list(settings.layers), lora_rank=settings.rank, upcast_dtype=self.pipe.torch_dtype
            )
        else:
            dit.requires_grad_(requires_grad=True)
        if isinstance(dit.patch_embedding, WidenedPatchEmbedding):
            dit.patch_embedding.mask.requires_grad_(requires_grad=True)

    def close(self) -> None:
        """Remove the hooks."""
        if self._rope is not None:
            self._rope.close()

    def forward(self, latents: Latents, seed: int, window: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """Return the loss of one sample, a scalar.

        Where gradients are off it measures: the plain task with its text, by flow matching alone, so that numbers of
        models with other losses can be compared.

        Args:
            latents: of `PropagationEncoding`.
            seed: of timestep, noise and what is left out: the same seed gives the same loss.
            window: range of the timesteps to draw from, as fractions; 0 is the noisy end.
        """
        settings, measuring = self.settings, not torch.is_grad_enabled()
        latents = self.transfer_data_to_device(latents, self.pipe.device, self.pipe.torch_dtype)
        target = latents["target"]
        draws = torch.Generator().manual_seed(seed)
        first, last = (int(edge * STEPS) for edge in window)
        step = int(torch.randint(first, max(last, first + 1), (1,), generator=draws))
        noise = torch.randn(target.shape, generator=draws).to(target.device)
        of_identity, without_text = torch.rand(2, generator=draws).tolist()
        sigma = float(self._schedule.sigmas[step])
        noisy = ((1 - sigma) * target.float() + sigma * noise).to(target.dtype)
        timestep = self._schedule.timesteps[step : step + 1].to(device=self.pipe.device, dtype=self.pipe.torch_dtype)
        task = dict(latents)
        if not measuring and without_text < settings.text_dropout:
            task["context"] = latents["empty_context"]
        itself = {**task, "source": target, "first_frame": target[:, :, :1]}
        identity = not measuring and of_identity < settings.identity_share
        self.terms = {"timestep": float(timestep), "identity": float(identity)}
        distilled = settings.distillation and not measuring and not identity
        teacher = self._features(itself, noisy, timestep) if distilled else None
        with tapped(self.pipe.dit, self._tap) if distilled else nullcontext(Tap()) as tap:
            predicted = self._predict(itself if identity else task, noisy, timestep)
        matching = torch.nn.functional.mse_loss(predicted.float(), noise - target.float())
        loss = matching * float(self._schedule.linear_timesteps_weights[step])
        self.terms["flow_matching"] = float(matching.detach())
        if teacher is not None:
            student = self._pooled(tap.features, noisy)
            motion, mmd = motion_loss(student, teacher), mmd_loss(student, teacher, settings.sigma)
            self.terms |= {"motion": float(motion.detach()), "mmd": float(mmd.detach())}
            loss = loss + settings.motion_weight * motion + settings.mmd_weight * mmd
        return loss

    @torch.no_grad()
    def _features(self, latents: Latents, noisy: Tensor, timestep: Tensor) -> Tensor:
        """Return the teacher's features; the blocks behind the tap do not run."""
        with tapped(self.pipe.dit, self._tap, stop=True) as tap:
            self._predict(latents, noisy, timestep)
        return self._pooled(tap.features, noisy)

    def _predict(self, latents: Latents, noisy: Tensor, timestep: Tensor) -> Tensor:
        """Return the velocity of a task, and keep the factors of its clip in `terms`."""
        inputs = model_inputs(latents, self.settings)
        if self._rope is not None and self.predictor is not None:
            alpha_s, alpha_t = self.predictor(latents["source"])
            self._rope.use(alpha_s, alpha_t, noisy.shape[2], leading_tokens(noisy, self.settings))
            self.terms |= {"alpha_s": float(alpha_s.detach().mean()), "alpha_t": float(alpha_t.detach().mean())}
        checkpointing = self.settings.gradient_checkpointing if torch.is_grad_enabled() else "off"
        predicted: Tensor = self.pipe.model_fn(
            dit=self.pipe.dit,
            latents=noisy,
            timestep=timestep,
            use_gradient_checkpointing=checkpointing != "off",
            use_gradient_checkpointing_offload=checkpointing == "offload",
            **inputs,
        )
        return predicted

    def _pooled(self, features: Tensor | None, noisy: Tensor) -> Tensor:
        if features is None:
            raise RuntimeError("the tapped block did not run")
        frames, height, width = noisy.shape[2:]
        grid = frames, height // 2, width // 2
        return pooled(features, grid, self.settings.pool, leading_tokens(noisy, self.settings))

    def learned(self) -> dict[str, torch.nn.Parameter]:
        """Return the trained parameters by their names in their files, which no two files share."""
        found = {}
        for name, value in self.named_parameters():
            if value.requires_grad:
                found[name.removeprefix(_PIPE)] = value
        return found

    def parts(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        """Return the trained parameters by stem of their file, and there by name."""
        found: dict[str, dict[str, torch.nn.Parameter]] = {}
        for name, value in self.learned().items():
            own = name.startswith((PREDICTOR, STATE))
            stem = PROPAGATION if own else LORA if self.settings.rank else TRANSFORMER
            found.setdefault(stem, {})[name] = value
        return found


STEPS = 1000
"""Timesteps of the schedule that training draws from (diffsynth's)."""
