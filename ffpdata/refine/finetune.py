"""Fine-tuning the remover: accepted pairs become a LoRA over VACE, with its lineage.

A sample is what the remover is shown at work, made by the same code (`models.vace.shown_for_edit`, `make_request`), and
the accepted target as the clip to learn. The work is done in processes of its own (`refine.train`), so that all GPU
memory is free afterwards; it can be killed at any instant, and the same call goes on from there.

The LoRA is learned over the checkpoint's plain weights. What the profile already lays over them (`settings.loras`, e.g.
a distilled model of few steps) takes no part in training and stays on for the drawings; the new LoRA is laid beside it.
So give a `spec` without the LoRA of an earlier round, which the new one replaces.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.keys import KEY_CHARS, digest
from ffpdata.core.stage import ModelSpec
from ffpdata.media.codec import video_info
from ffpdata.media.geometry import check_clip
from ffpdata.models.settings import check
from ffpdata.models.wan.loading import require
from ffpdata.refine.files import clean, write_whole
from ffpdata.refine.launch import launch
from ffpdata.refine.sheet import contact_sheet, loss_curve

VERSION = 1
"""Raised whenever the same job would give another LoRA; it counts in what checkpoints are taken up by."""

JOB, TRAINED, LORA, LINEAGE, LOG = "job.json", "trained.json", "lora.safetensors", "lineage.json", "train.log"
SHEET, LOSSES, CURVE = "validation.jpg", "losses.csv", "loss.svg"
"""Files in the folder of a training."""


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


@dataclass(frozen=True)
class Tuned:
    """A model revision.

    Attributes:
        lora: the weights, for `settings.loras`.
        revision: digest of the file's bytes.
        lineage: what it was made from and how, as in `lineage.json`.
        losses: (step, loss), from 1.
        sheet: contact sheet of the validation; None where none was drawn.
        seconds: of training, all starts together.
    """

    lora: Path
    revision: str
    lineage: dict[str, Any]
    losses: list[tuple[int, float]]
    sheet: Path | None
    seconds: float


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
            paths = ("source_video", "condition_mask", "target_video")
            return tuple(Sample(**entry | {p: Path(entry[p]) for p in paths}) for entry in data[name])

        settings = TrainSettings(**data["settings"])
        spec = ModelSpec(**data["spec"])
        return cls(samples("samples"), samples("held_out"), data["keys"], spec, settings, path.parent)


def finetune(  # noqa: PLR0917 - the interface of a round
    samples: Sequence[Sample],
    validation: Sequence[Sample],
    spec: ModelSpec,
    settings: TrainSettings,
    folder: Path,
    say: Callable[[str], None],
) -> Tuned:
    """Learn a LoRA from accepted removals.

    A call that was broken off goes on where it was; a finished one returns at once.

    Args:
        samples: what is learned from.
        validation: never trained on, of other sources: their loss is measured, and the remover draws the first of them
            without and with the LoRA.
        spec: the profile's `remover`; what it lays over its weights is not trained through (see the module).
        settings: how.
        folder: where all files of this training go.
        say: told of progress, a line at a time.

    Returns:
        The LoRA and its lineage. The folder also holds `losses.csv` (step, loss, held_out), `loss.svg` and `train.log`.

    Raises:
        ConfigError: a back end that cannot be trained, no sample, one that does not fit, too little memory.
        FatalError: too little disk, a file that cannot be read, a loss that is not finite (the message names step and
            sample), or a process that died (with the end of its log).
        GpuMemoryError: the device was full after all.
    """
    trainable(spec)
    check(spec)
    check_samples(samples, validation)
    require("torch", "diffsynth", "accelerate", "peft")
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    used = (*samples, *validation)
    job = Job(tuple(samples), tuple(validation), {s.item_id: content_key(s) for s in used}, spec, settings, folder)
    if (tuned := finished(job)) is not None:
        say(f"already trained: revision {tuned.revision}")
        return tuned
    if spec.settings.get("loras"):
        say("the profile's LoRAs take no part in training; they stay on for the drawings")
    for part in ("", "latents", "drawings", "checkpoints"):
        clean(folder / part)
    launch("ffpdata.refine.train", job.write(), job.processes, folder / LOG, say)
    return conclude(job)


def trainable(spec: ModelSpec) -> None:
    """Refuse a back end that cannot be fine-tuned.

    Raises:
        ConfigError: it says which can.
    """
    if not hasattr(spec.load_class(), "training_plan"):
        raise ConfigError(
            f"the remover {spec.backend} cannot be fine-tuned: use a profile whose remover is "
            "ffpdata.models.vace:Vace, e.g. --profile gpu"
        )


def check_samples(samples: Sequence[Sample], validation: Sequence[Sample]) -> None:
    """Refuse what cannot be learned from.

    Raises:
        ConfigError: there is no sample; one stands twice, or in both; sizes differ or do not suit the model.
        FatalError: a file is missing.
    """
    if not samples:
        raise ConfigError("no accepted pair to learn from: review more pairs first")
    seen: dict[str, str] = {}
    for name, part in (("samples", samples), ("validation", validation)):
        for sample in part:
            if sample.item_id in seen:
                raise ConfigError(f"{sample.item_id} stands in {seen[sample.item_id]} and in {name}: once is enough")
            seen[sample.item_id] = name
    for sample in (*samples, *validation):
        sizes = {}
        for kind in ("source_video", "condition_mask", "target_video"):
            path: Path = getattr(sample, kind)
            if not path.is_file():
                raise FatalError(f"{sample.item_id}: its {kind} is missing: {path}")
            info = video_info(path)
            sizes[kind] = (info.frames, info.height, info.width)
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{kind} {w} x {h} x {t}" for kind, (t, h, w) in sizes.items())
            raise ConfigError(f"{sample.item_id}: all three must have one size: {found}")
        check_clip(*sizes["source_video"], model=sample.item_id)


def content_key(sample: Sample) -> str:
    """Hash what a sample is, wherever its files lie."""
    files = [file_digest(path) for path in (sample.source_video, sample.condition_mask, sample.target_video)]
    return digest(files, sample.prompt, sample.negative, sample.seed)


def file_digest(path: Path) -> str:
    """Hash a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:KEY_CHARS]


def finished(job: Job) -> Tuned | None:
    """Return what an earlier call made of the very same job, if it came to its end."""
    try:
        trained = json.loads((job.folder / TRAINED).read_text())
        lineage = json.loads((job.folder / LINEAGE).read_text())
    except FileNotFoundError:
        return None
    wanted = (job.fingerprint, job.settings.steps)
    if (trained["fingerprint"], trained["step"]) != wanted or lineage.get("revision") != trained["revision"]:
        return None
    drawn = [job.drawing(sample, revision) for sample in job.drawn for revision in ("", trained["revision"])]
    if not (job.folder / LORA).is_file() or file_digest(job.folder / LORA) != trained["revision"]:
        return None
    return conclude(job) if all(path.is_file() for path in drawn) else None


def conclude(job: Job) -> Tuned:
    """Put sheet, curve and lineage beside a trained LoRA."""
    trained = json.loads((job.folder / TRAINED).read_text())
    losses = [(int(step), float(loss)) for step, loss in trained["losses"]]
    held_out = [(int(step), float(loss)) for step, loss in trained["held_out"]]
    revision = str(trained["revision"])
    write_whole(job.folder / LOSSES, losses_table(losses, held_out))
    write_whole(job.folder / CURVE, loss_curve(losses, held_out).encode())
    rows = [(sample, job.drawing(sample, ""), job.drawing(sample, revision)) for sample in job.drawn]
    sheet = write_whole(job.folder / SHEET, contact_sheet(rows)) if rows else None
    lineage = {
        "revision": revision,
        "base": base_of(job.spec),
        "settings": job.settings.model_dump(mode="json"),
        "samples": [named(sample) for sample in job.samples],
        "held_out": [named(sample) for sample in job.held_out],
        "steps": losses[-1][0],
        "first_loss": losses[0][1],
        "last_loss": losses[-1][1],
        "held_out_before": held_out[0][1] if held_out else None,
        "held_out_after": held_out[-1][1] if held_out else None,
        "versions": trained["versions"],
        "device": trained["device"],
        "processes": job.processes,
        "seconds": trained["seconds"],
    }
    write_whole(job.folder / LINEAGE, json.dumps(lineage, indent=1, ensure_ascii=False).encode())
    return Tuned(job.folder / LORA, revision, lineage, losses, sheet, float(trained["seconds"]))


def named(sample: Sample) -> dict[str, str]:
    """What of a sample the lineage tells."""
    return {name: getattr(sample, name) for name in ("item_id", "pair", "verdict", "prompt")}


def base_of(spec: ModelSpec) -> dict[str, Any]:
    """Name a model without the folders of this machine."""

    def name(model: str) -> str:
        return Path(model).name if model.startswith(("/", ".", "~")) else model

    loras = [{**lora, "model": name(str(lora.get("model", "")))} for lora in spec.settings.get("loras", [])]
    parts = spec.settings.get("sources", {})
    sources = {part: {**entry, "model": name(str(entry["model"]))} for part, entry in parts.items()}
    return {
        "backend": spec.backend,
        "model": name(spec.model),
        "revision": spec.revision,
        "label": spec.label.replace(spec.model, name(spec.model), 1),
        "licence": spec.licence,
        "sources": sources,
        "laid_over_when_drawing": loras,
    }


def losses_table(losses: Sequence[tuple[int, float]], held_out: Sequence[tuple[int, float]]) -> bytes:
    """`losses.csv`: one row per step; step 0, before the first, has a held-out loss alone."""
    one, other = dict(losses), dict(held_out)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["step", "loss", "held_out"])
    table.writerows([step, one.get(step, ""), other.get(step, "")] for step in sorted(one.keys() | other.keys()))
    return text.getvalue().encode()
