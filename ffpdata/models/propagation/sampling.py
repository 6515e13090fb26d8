"""Ask the transformer: from noise to the latent of the edited clip, by Euler steps on the flow.

Importing this module imports torch and diffsynth. The steps are those of diffsynth's WanVideoPipeline; its units that
prepare the input are not run, because that of Fun-Control encodes the first frame in another way
(`propagation.conditioning`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffsynth.diffusion import FlowMatchScheduler
from torch import Tensor

from ffpdata.models.propagation.ast_rope import AstRope
from ffpdata.models.propagation.conditioning import model_inputs

if TYPE_CHECKING:
    from ffpdata.models.propagation.alpha_predictor import AlphaPredictor
    from ffpdata.models.propagation.settings import PropagationSettings


@dataclass(frozen=True)
class Sampling:
    """How the steps are taken.

    Attributes:
        steps: of the transformer.
        guidance: weight of the text against the negative text; 1 asks without it.
        shift: of the schedule.
    """

    steps: int = 50
    guidance: float = 5.0
    shift: float = 5.0


@dataclass(frozen=True)
class Positions:
    """What AST-RoPE needs beside the transformer.

    Attributes:
        predictor: of the factors.
        temporal: per layer and head whether it is temporal.
    """

    predictor: AlphaPredictor
    temporal: Sequence[Sequence[bool]]


@dataclass(frozen=True)
class Held:
    """The part of a latent that is given and not drawn.

    Attributes:
        latent: (1, z, F', H', W').
        where: (1, 1, F', H', W'), 1 where it is given and 0 where it is drawn.
    """

    latent: Tensor
    where: Tensor

    def put(self, found: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """Return what was found with the given part in its place, at the noise of a step: sigma 0 is none."""
        given = (1 - sigma) * self.latent + sigma * noise
        return torch.where(self.where > 0, given, found).to(found.dtype)


@torch.no_grad()
def sample(
    pipe: Any,
    latents: Mapping[str, Tensor],
    settings: PropagationSettings,
    *,
    seed: int,
    sampling: Sampling,
    negative: Tensor | None = None,
    positions: Positions | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return the latent of the edited clip, and the factors of its positions.

    Args:
        pipe: WanVideoPipeline with the transformer; it is widened for the settings' mask already.
        latents: of `conditioning.encode_inputs`.
        settings: of the model.
        seed: of the noise, which is drawn on the CPU.
        sampling: how the steps are taken.
        negative: tokens of the negative text, (1, n, text width); needed where guidance is not 1.
        positions: of AST-RoPE; None for the base's own.

    Returns:
        (1, z, F', H', W') of the pipeline's type; `alpha_s` and `alpha_t` with AST-RoPE.
    """
    inputs = model_inputs(latents, settings)
    others = None
    if sampling.guidance != 1:
        if negative is None:
            raise ValueError(f"guidance {sampling.guidance} needs the tokens of a negative text")
        others = {**inputs, "context": model_inputs({**latents, "context": negative}, settings)["context"]}
    source, facts = latents["source"], {}
    with ExitStack() as hooks:
        if positions is not None:
            pipe.load_models_to_device(["dit"])
            rope = hooks.enter_context(AstRope(pipe.dit, positions.temporal))
            # One pair per clip: the factors depend on no timestep.
            alpha_s, alpha_t = positions.predictor(source)
            rope.use(alpha_s, alpha_t, source.shape[2], leading_tokens(source, settings))
            facts = {"alpha_s": float(alpha_s.mean()), "alpha_t": float(alpha_t.mean())}
        found = denoise(pipe, inputs, others, source.shape, seed=seed, sampling=sampling)
    return found, facts


def denoise(
    pipe: Any,
    inputs: Mapping[str, Any],
    others: Mapping[str, Any] | None,
    shape: Sequence[int],
    *,
    seed: int,
    sampling: Sampling,
    held: Held | None = None,
) -> Tensor:
    """Return a latent of a shape, by Euler steps from noise.

    Args:
        pipe: WanVideoPipeline with the transformer.
        inputs: arguments of diffsynth's `model_fn` that do not change from step to step.
        others: those with the negative text; None asks without guidance.
        shape: (1, z, F', H', W').
        seed: of the noise, which is drawn on the CPU.
        sampling: how the steps are taken.
        held: part of the latent that is given; None draws all.
    """
    schedule = FlowMatchScheduler("Wan")
    schedule.set_timesteps(sampling.steps, shift=sampling.shift)
    noise = pipe.generate_noise(shape, seed=seed, rand_device="cpu")
    found = noise
    pipe.load_models_to_device(["dit"])
    sigmas = [*map(float, schedule.sigmas[1:]), 0.0]
    for step, after in zip(schedule.timesteps, sigmas, strict=True):
        timestep = step.unsqueeze(0).to(dtype=pipe.torch_dtype, device=pipe.device)
        velocity = pipe.model_fn(dit=pipe.dit, latents=found, timestep=timestep, **inputs)
        if others is not None:
            away = pipe.model_fn(dit=pipe.dit, latents=found, timestep=timestep, **others)
            velocity = away + sampling.guidance * (velocity - away)
        found = schedule.step(velocity, step, found)
        if held is not None:
            found = held.put(found, noise, after)
    return found


def leading_tokens(latent: Tensor, settings: PropagationSettings) -> int:
    """Return how many tokens stand before those of a clip whose latent is (1, z, F', H', W')."""
    return latent.shape[3] * latent.shape[4] // 4 if settings.reference_tokens == "zero" else 0
