"""Fine-tuning the remover: accepted pairs become a LoRA over VACE, with its lineage.

A sample is what the remover is shown at work, made by the same code (`models.vace.shown_for_edit`, `make_request`), and
the accepted target as the clip to learn. The work is done in processes of its own (`training.vace_lora`), so that all
GPU memory is free afterwards; it can be killed at any instant, and the same call resumes there.

The LoRA is learned over the checkpoint's plain weights. What the profile already lays over them (`settings.loras`, e.g.
a distilled model of few steps) takes no part in training and stays on for the drawings; the new LoRA is laid beside it.
So give a `spec` without the LoRA of an earlier round, which the new one replaces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.stage import ModelSpec
from ffpdata.media.codec import video_info
from ffpdata.media.geometry import check_clip
from ffpdata.models.settings import check
from ffpdata.models.wan.loading import require
from ffpdata.training.atomic_files import clean, write_whole
from ffpdata.training.contact_sheet import contact_sheet
from ffpdata.training.job import CLIPS, LORA, TRAINED, Job, Sample, TrainSettings, content_key, file_digest
from ffpdata.training.launch import launch
from ffpdata.training.losses import loss_curve, losses_table

__all__ = ["FineTuned", "Sample", "TrainSettings", "finetune"]

LINEAGE, SHEET, LOSSES, CURVE, LOG = "lineage.json", "validation.jpg", "losses.csv", "loss.svg", "train.log"
"""Files in the folder of a training, beside those of its processes."""


@dataclass(frozen=True)
class FineTuned:
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


def finetune(  # noqa: PLR0917 - the interface of a round
    samples: Sequence[Sample],
    validation: Sequence[Sample],
    spec: ModelSpec,
    settings: TrainSettings,
    folder: Path,
    say: Callable[[str], None],
) -> FineTuned:
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
    launch("ffpdata.training.vace_lora", job.write(), job.processes, folder / LOG, say)
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
        for kind in CLIPS:
            path: Path = getattr(sample, kind)
            if not path.is_file():
                raise FatalError(f"{sample.item_id}: its {kind} is missing: {path}")
            info = video_info(path)
            sizes[kind] = (info.frames, info.height, info.width)
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{kind} {w} x {h} x {t}" for kind, (t, h, w) in sizes.items())
            raise ConfigError(f"{sample.item_id}: all three must have one size: {found}")
        check_clip(*sizes["source_video"], model=sample.item_id)


def finished(job: Job) -> FineTuned | None:
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


def conclude(job: Job) -> FineTuned:
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
    return FineTuned(job.folder / LORA, revision, lineage, losses, sheet, float(trained["seconds"]))


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
