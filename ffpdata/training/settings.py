"""Settings of a training that every method has: steps, learning rate, what is kept and what is measured."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

NEUTRAL: dict[str, Any] = {"schedule": "constant", "warm_up": 0.0, "clip_norm": None, "nodes": 1}
"""Settings that came later, with the values at which the weights are those of a training without them: these take no
part in a fingerprint."""

NO_PART = ("steps", "epochs", "save_every", "validation", "latent_cache_gb")
"""Settings that the weights after a number of steps do not depend on."""


class LoopSettings(BaseModel):
    """How a module is trained, whatever it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(1e-4, gt=0)
    """Of the steps between warm-up and decay; of all steps where the schedule is constant."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate over the steps; `cosine` falls to 0 at the last one."""
    warm_up: float = Field(0.0, ge=0, lt=1)
    """Fraction of the steps at whose beginning the learning rate rises from 0."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of a step's gradient; longer ones are shortened to it."""
    weight_decay: float = Field(1e-2, ge=0)
    steps: int | None = Field(None, ge=1)
    """Optimizer steps. With a larger number a finished training resumes from its last checkpoint, where the schedule is
    constant."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the samples; where it is given, `steps` is not used."""
    accumulate: int = Field(1, ge=1)
    """Samples per process and step, whose gradients are added up."""
    save_every: int = Field(50, ge=1)
    """Steps between checkpoints; the last two are kept."""
    seed: int = Field(0, ge=0)
    """Seed of the first weights, the order of the samples, the noise and the timesteps."""
    gradient_checkpointing: Literal["off", "on", "offload"] = "offload"
    """What is kept of each block for the backward pass: all of it, its input, or its input in main memory."""
    gpus: int = Field(1, ge=0)
    """Processes on each node, each with a GPU and a whole copy of the model; each step takes `accumulate` samples of
    each. 0 is one process on the CPU; a profile whose runtime says `cpu` stays on the CPU with any number."""
    nodes: int = Field(1, ge=1)
    """Machines. Several are a Ray cluster's (`RAY_ADDRESS`), and the folder of the training must be one that all of
    them share."""
    latent_cache_gb: float | None = Field(None, gt=0)
    """Most of the disk that latents take, GB. None keeps those of all samples. Where they need more, those of the next
    steps are made, trained on and removed, and so on: the encoders are loaded once for each such part."""
    validation: int = Field(4, ge=0)
    """Held-out samples that are drawn, before and after the training."""
    measured: int = Field(4, ge=0)
    """Held-out samples whose loss is measured: one pass of the model per draw. With all defaults they add a tenth to
    the training's time."""
    measure_every: int = Field(50, ge=1)
    """Steps between measurements."""
    measure_draws: int = Field(4, ge=1)
    """Timesteps at which each held-out loss is measured, one from each equal part of the schedule."""

    @property
    def processes(self) -> int:
        """Number of processes on all nodes."""
        return max(1, self.gpus) * self.nodes

    @property
    def samples_per_step(self) -> int:
        """Samples whose gradients a step adds up."""
        return self.accumulate * self.processes

    def total_steps(self, samples: int) -> int:
        """Return the number of steps of a training on so many samples."""
        if self.epochs is not None:
            return max(1, math.ceil(self.epochs * samples / self.samples_per_step))
        return self.steps or 1

    def fingerprint(self, samples: int) -> dict[str, Any]:
        """Return the settings that the weights after a number of steps depend on."""
        dumped = self.model_dump(mode="json", exclude=set(NO_PART))
        kept = {name: value for name, value in dumped.items() if name not in NEUTRAL or value != NEUTRAL[name]}
        if self.schedule != "constant" or self.warm_up:
            kept["steps"] = self.total_steps(samples)
        return kept

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        Args:
            step: from 0.
            steps: of the whole training.
        """
        rising = round(self.warm_up * steps)
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


class LoraSettings(LoopSettings):
    """How a LoRA over VACE is trained.

    Rank, rate, decay and targets are those of diffsynth's own script for VACE 14B
    (examples/wanvideo/model_training/lora/Wan2.1-VACE-14B.sh); the paper names none.
    """

    rank: int = Field(32, ge=1)
    steps: int | None = Field(500, ge=1)
    """Optimizer steps: that script's 5 epochs of 100 repeats. With a larger number a finished training resumes from its
    last checkpoint. A step takes about three passes of the transformer: 95 s for VACE 14B on 1280 x 720 x 81 on an H100
    (estimate, as in the profile `gpu`).
    """
    targets: str = "q,k,v,o,ffn.0,ffn.2"
    """Layers of VACE that are trained, by the ends of their names."""

    @property
    def layers(self) -> list[str]:
        """`targets` as a list."""
        return [target.strip() for target in self.targets.split(",")]
