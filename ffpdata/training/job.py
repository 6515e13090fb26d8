"""The job of a training: its samples, its settings, and the paths of its files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from ffpdata.core.keys import digest
from ffpdata.core.stage import ModelSpec
from ffpdata.training.atomic_files import write_atomically
from ffpdata.training.removal_sample import CLIPS, RemovalSample

VERSION = 1
"""Raised whenever the same job would give another LoRA: checkpoints of another version are not resumed."""

JOB, TRAINED, LORA = "job.json", "trained.json", "lora.safetensors"
"""Files in the folder of a training."""


class TrainSettings(BaseModel):
    """How a LoRA is trained.

    Rank, rate, decay and targets are those of diffsynth's own script for VACE 14B
    (examples/wanvideo/model_training/lora/Wan2.1-VACE-14B.sh); the paper names none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    """Constant over all steps."""
    weight_decay: float = Field(1e-2, ge=0)
    steps: int = Field(500, ge=1)
    """Optimizer steps: that script's 5 epochs of 100 repeats. With a larger number a finished training resumes from its
    last checkpoint. A step takes about three passes of the transformer: 95 s for VACE 14B on 1280 x 720 x 81 on an H100
    (estimate, as in the profile `gpu`).
    """
    accumulate: int = Field(1, ge=1)
    """Samples per process and step, whose gradients are added up."""
    save_every: int = Field(50, ge=1)
    """Steps between checkpoints; the last two are kept."""
    seed: int = Field(0, ge=0)
    """Seed of the LoRA's first weights, the order of the samples, the noise and the timesteps."""
    gradient_checkpointing: Literal["off", "on", "offload"] = "offload"
    """What is kept of each block for the backward pass: all of it, its input, or its input in main memory."""
    targets: str = "q,k,v,o,ffn.0,ffn.2"
    """Layers of VACE that are trained, by the ends of their names."""
    gpus: int = Field(1, ge=0)
    """Processes, each with a GPU and a whole copy of the model; each step takes `accumulate` samples of each. 0 is one
    process on the CPU; a profile whose runtime says `cpu` stays on the CPU with any number."""
    validation: int = Field(4, ge=0)
    """Held-out samples that are drawn, before and after the training."""
    measured: int = Field(4, ge=0)
    """Held-out samples whose loss is measured: one pass of the transformer per draw. With all defaults they add a tenth
    to the training's time."""
    measure_every: int = Field(50, ge=1)
    """Steps between measurements."""
    measure_draws: int = Field(4, ge=1)
    """Timesteps at which each held-out loss is measured, one from each equal part of the schedule."""

    @property
    def layers(self) -> list[str]:
        """`targets` as a list."""
        return [target.strip() for target in self.targets.split(",")]


@dataclass(frozen=True)
class Job:
    """Everything that the training processes need to know."""

    samples: tuple[RemovalSample, ...]
    held_out: tuple[RemovalSample, ...]
    keys: dict[str, str]
    """Item to `removal_sample.content_key` of its sample."""
    spec: ModelSpec
    settings: TrainSettings
    folder: Path

    @property
    def processes(self) -> int:
        """Number of processes."""
        return max(1, self.settings.gpus)

    @property
    def drawn(self) -> tuple[RemovalSample, ...]:
        """Held-out samples that are drawn."""
        return self.held_out[: self.settings.validation]

    @property
    def measured(self) -> tuple[RemovalSample, ...]:
        """Held-out samples whose loss is measured."""
        return self.held_out[: self.settings.measured]

    @property
    def fingerprint(self) -> str:
        """Hash of all that the weights after a number of steps depend on; only its own checkpoints are resumed."""
        free = {"steps", "save_every", "validation"}
        settings = self.settings.model_dump(mode="json", exclude=free)
        keys = [[self.keys[sample.item_id] for sample in part] for part in (self.samples, self.measured)]
        return digest(VERSION, keys, settings, self.base())

    def base(self) -> dict[str, Any]:
        """Identity of the model that is trained: the remover without its LoRAs and its sampling settings."""
        settings = self.spec.settings
        kept = {name: settings[name] for name in ("sources", "tiles", "dtype", "control_scale") if name in settings}
        return self.spec.identity() | {"settings": kept}

    def latents_file(self, sample: RemovalSample) -> Path:
        """Path of a sample's latents."""
        name = digest("latents", VERSION, self.keys[sample.item_id], self.base())
        return self.folder / "latents" / f"{name}.safetensors"

    def drawing(self, sample: RemovalSample, revision: str) -> Path:
        """Path of the clip that the remover makes of a sample, with the LoRA of `revision`, or without it for ""."""
        name = digest("drawing", VERSION, self.keys[sample.item_id], self.spec.identity(), revision)
        return self.folder / "drawings" / f"{name}.mp4"

    def write(self) -> Path:
        """Write `job.json` and return its path; it holds absolute paths of this machine."""
        data: dict[str, Any] = {
            name: [asdict(sample) for sample in getattr(self, name)] for name in ("samples", "held_out")
        }
        data |= {"keys": self.keys, "spec": self.spec.model_dump(), "settings": self.settings.model_dump()}
        return write_atomically(self.folder / JOB, json.dumps(data, default=str, indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))

        def samples(name: str) -> tuple[RemovalSample, ...]:
            return tuple(RemovalSample(**entry | {clip: Path(entry[clip]) for clip in CLIPS}) for entry in data[name])

        settings = TrainSettings(**data["settings"])
        spec = ModelSpec(**data["spec"])
        return cls(samples("samples"), samples("held_out"), data["keys"], spec, settings, path.parent)
