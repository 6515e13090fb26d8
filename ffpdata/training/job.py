"""What a training is told: its samples, its settings, and where its files lie."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from ffpdata.core.keys import KEY_CHARS, digest
from ffpdata.core.stage import ModelSpec
from ffpdata.training.atomic_files import write_whole

VERSION = 1
"""Raised whenever the same job would give another LoRA; it counts in what checkpoints are taken up by."""

JOB, TRAINED, LORA = "job.json", "trained.json", "lora.safetensors"
"""Files in the folder of a training."""

CLIPS = ("source_video", "condition_mask", "target_video")
"""Files of a sample: its columns in a run, and its attributes here."""


class TrainSettings(BaseModel):
    """How a LoRA is learned.

    Rank, rate, decay and targets are those of diffsynth's own script for VACE 14B
    (examples/wanvideo/model_training/lora/Wan2.1-VACE-14B.sh); the paper names none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    """Constant over all steps."""
    weight_decay: float = Field(1e-2, ge=0)
    steps: int = Field(500, ge=1)
    """Of the optimizer: that script's 5 epochs of 100 repeats. More of them later go on from the last checkpoint. One
    takes about three passes of the transformer: 95 s for VACE 14B on 1280 x 720 x 81 on an H100 (estimate, as in the
    profile `gpu`).
    """
    accumulate: int = Field(1, ge=1)
    """Samples that each process looks at for one step."""
    save_every: int = Field(50, ge=1)
    """Steps between checkpoints; the last two are kept."""
    seed: int = Field(0, ge=0)
    """Of the LoRA's beginning, the order of the samples, the noise and the timesteps."""
    gradient_checkpointing: Literal["off", "on", "offload"] = "offload"
    """What is kept of each block for the way back: all of it, its input, or its input in main memory."""
    targets: str = "q,k,v,o,ffn.0,ffn.2"
    """Layers of VACE that learn, by the ends of their names."""
    gpus: int = Field(1, ge=0)
    """Processes, each with a GPU and a whole copy of the model; each step takes `accumulate` samples of each. 0 is one
    process on the CPU, where a profile whose runtime says `cpu` stays with any number."""
    validation: int = Field(4, ge=0)
    """Held-out samples that are drawn, before and after."""
    measured: int = Field(4, ge=0)
    """Held-out samples whose loss is measured: a pass of the transformer for each draw. With all defaults they add a
    tenth to the training's time."""
    measure_every: int = Field(50, ge=1)
    """Steps between measurements."""
    measure_draws: int = Field(4, ge=1)
    """Timesteps that each is measured at, one from each equal part of the schedule."""

    @property
    def layers(self) -> list[str]:
        """`targets`, one by one."""
        return [target.strip() for target in self.targets.split(",")]


@dataclass(frozen=True)
class Sample:
    """An accepted removal, or a held-out one.

    Attributes:
        item_id: the edit.
        source_video: the clip with the object.
        condition_mask: the region that the remover repaints.
        target_video: the accepted clip, of the same size.
        prompt: what the remover was told: the caption without the object.
        negative: what it was told to leave out.
        seed: of the drawings.
        pair: key that names the pair.
        verdict: what was decided about it, in words.
        content: names what the files hold, where the caller knows; else their bytes are hashed, which takes a while
            where there are thousands.
    """

    item_id: str
    source_video: Path
    condition_mask: Path
    target_video: Path
    prompt: str
    negative: str
    seed: int
    pair: str
    verdict: str
    content: str = ""


@dataclass(frozen=True)
class Job:
    """What the training processes are told."""

    samples: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    keys: dict[str, str]
    """Item to a hash of what a sample is: its files' bytes, prompts and seed."""
    spec: ModelSpec
    settings: TrainSettings
    folder: Path

    @property
    def processes(self) -> int:
        """How many work on it."""
        return max(1, self.settings.gpus)

    @property
    def drawn(self) -> tuple[Sample, ...]:
        """Held-out samples that are drawn."""
        return self.held_out[: self.settings.validation]

    @property
    def measured(self) -> tuple[Sample, ...]:
        """Held-out samples whose loss is measured."""
        return self.held_out[: self.settings.measured]

    @property
    def fingerprint(self) -> str:
        """What the weights after a number of steps depend on: checkpoints of another one are not taken up."""
        free = {"steps", "save_every", "validation"}
        settings = self.settings.model_dump(mode="json", exclude=free)
        chosen = [[self.keys[sample.item_id] for sample in part] for part in (self.samples, self.measured)]
        return digest(VERSION, chosen, settings, self.base())

    def base(self) -> dict[str, Any]:
        """What is trained: the remover without its LoRAs and sampling."""
        given = self.spec.settings
        kept = {name: given[name] for name in ("sources", "tiles", "dtype", "control_scale") if name in given}
        return self.spec.identity() | {"settings": kept}

    def latents_file(self, sample: Sample) -> Path:
        """Where a sample's latents are kept."""
        name = digest("latents", VERSION, self.keys[sample.item_id], self.base())
        return self.folder / "latents" / f"{name}.safetensors"

    def drawing(self, sample: Sample, revision: str) -> Path:
        """Where the remover's drawing of a sample is kept, without the new LoRA (revision "") or with it."""
        name = digest("drawing", VERSION, self.keys[sample.item_id], self.spec.identity(), revision)
        return self.folder / "drawings" / f"{name}.mp4"

    def write(self) -> Path:
        """Write `job.json`; it holds the paths of this machine."""
        data: dict[str, Any] = {
            name: [asdict(sample) for sample in getattr(self, name)] for name in ("samples", "held_out")
        }
        data |= {"keys": self.keys, "spec": self.spec.model_dump(), "settings": self.settings.model_dump()}
        return write_whole(self.folder / JOB, json.dumps(data, default=str, indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        data = json.loads(path.read_text())

        def samples(name: str) -> tuple[Sample, ...]:
            return tuple(Sample(**entry | {clip: Path(entry[clip]) for clip in CLIPS}) for entry in data[name])

        settings = TrainSettings(**data["settings"])
        spec = ModelSpec(**data["spec"])
        return cls(samples("samples"), samples("held_out"), data["keys"], spec, settings, path.parent)


def content_key(sample: Sample) -> str:
    """Hash what a sample is, wherever its files lie."""
    files = [sample.content] if sample.content else [file_digest(getattr(sample, clip)) for clip in CLIPS]
    return digest(files, sample.prompt, sample.negative, sample.seed)


def file_digest(path: Path) -> str:
    """Hash a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:KEY_CHARS]
