"""Fine-tunes the remover: accepted removals become a LoRA over VACE, with its lineage.

A sample is the remover's own input, made by the same code as in a run (`models.vace.control_inputs`, `make_request`),
with the accepted target as the clip to learn. The work is done in processes of its own (`training.vace_lora`), so that
all GPU memory is free afterwards; it can be killed at any instant, and the same call resumes it.

The LoRA is trained on the checkpoint's plain weights. LoRAs that the profile names (`settings.loras`, e.g. a distilled
model of few steps) are left out of the training and used for the drawings; the new LoRA is added to them. The LoRA of
an earlier round must therefore not be in `spec`: the new one replaces it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffpdata.core.errors import ConfigError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.settings import check
from ffpdata.models.wan.loading import require
from ffpdata.training.atomic_files import remove_temporary_files, write_atomically
from ffpdata.training.contact_sheet import contact_sheet
from ffpdata.training.job import LORA, TRAINED, Job, TrainSettings
from ffpdata.training.launch import launch
from ffpdata.training.losses import loss_svg, losses_table
from ffpdata.training.removal_sample import RemovalSample, check_samples, content_key, file_digest

LINEAGE, SHEET, LOSSES, CURVE, LOG = "lineage.json", "validation.jpg", "losses.csv", "loss.svg", "train.log"
"""Files in the folder of a training, beside those of its processes."""


@dataclass(frozen=True)
class FineTuned:
    """A trained LoRA.

    Attributes:
        lora: file of the weights, for `settings.loras`.
        revision: digest of the file's bytes.
        lineage: base model, settings, samples and losses, as in `lineage.json`.
        losses: (step, loss), from step 1.
        sheet: contact sheet of the validation; None where nothing was drawn.
        seconds: time spent on steps, over all starts.
    """

    lora: Path
    revision: str
    lineage: dict[str, Any]
    losses: list[tuple[int, float]]
    sheet: Path | None
    seconds: float


def finetune(  # noqa: PLR0917 - the interface of a round
    samples: Sequence[RemovalSample],
    validation: Sequence[RemovalSample],
    spec: ModelSpec,
    settings: TrainSettings,
    folder: Path,
    say: Callable[[str], None],
) -> FineTuned:
    """Train a LoRA on accepted removals.

    A call that was interrupted is resumed by the same call; a finished one returns at once.

    Args:
        samples: to train on.
        validation: held out, of other sources: their loss is measured, and the remover draws the first of them without
            and with the LoRA.
        spec: the profile's `remover`; its own LoRAs are not part of the training (see the module).
        settings: of the training.
        folder: for all files of this training.
        say: called with each line of progress.

    Returns:
        The LoRA and its lineage. The folder also holds `losses.csv` (step, loss, held_out), `loss.svg` and `train.log`.

    Raises:
        ConfigError: the back end cannot be trained, there is no sample or one that does not fit, or too little memory.
        FatalError: too little disk, a file that cannot be read, a loss that is not finite (the message names step and
            sample), or a process that died (with the end of its log).
        GpuMemoryError: the device was full although the estimate fitted.
    """
    check_trainable(spec)
    check(spec)
    check_samples(samples, validation)
    require("torch", "diffsynth", "accelerate", "peft")
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    keys = {sample.item_id: content_key(sample) for sample in (*samples, *validation)}
    job = Job(tuple(samples), tuple(validation), keys, spec, settings, folder)
    if (tuned := finished(job)) is not None:
        say(f"already trained: revision {tuned.revision}")
        return tuned
    if spec.settings.get("loras"):
        say("the profile's LoRAs are left out of the training and used for the drawings")
    for part in ("", "latents", "drawings", "checkpoints"):
        remove_temporary_files(folder / part)
    launch("ffpdata.training.vace_lora", job.write(), job.processes, folder / LOG, say)
    return write_results(job)


def check_trainable(spec: ModelSpec) -> None:
    """Raise ConfigError where a back end cannot be fine-tuned; it says which can."""
    if not hasattr(spec.load_class(), "training_plan"):
        raise ConfigError(
            f"the remover {spec.backend} cannot be fine-tuned: use a profile whose remover is "
            "ffpdata.models.vace:Vace, e.g. --profile gpu"
        )


def finished(job: Job) -> FineTuned | None:
    """Return the result of an earlier call for the same job; None where it has none or did not finish."""
    try:
        trained = json.loads((job.folder / TRAINED).read_text(encoding="utf-8"))
        lineage = json.loads((job.folder / LINEAGE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    expected = (job.fingerprint, job.settings.steps)
    if (trained["fingerprint"], trained["step"]) != expected or lineage.get("revision") != trained["revision"]:
        return None
    drawings = [job.drawing(sample, revision) for sample in job.drawn for revision in ("", trained["revision"])]
    if not (job.folder / LORA).is_file() or file_digest(job.folder / LORA) != trained["revision"]:
        return None
    return write_results(job) if all(path.is_file() for path in drawings) else None


def write_results(job: Job) -> FineTuned:
    """Write contact sheet, losses and lineage of a LoRA whose training has finished."""
    trained = json.loads((job.folder / TRAINED).read_text(encoding="utf-8"))
    losses = [(int(step), float(loss)) for step, loss in trained["losses"]]
    held_out = [(int(step), float(loss)) for step, loss in trained["held_out"]]
    revision = str(trained["revision"])
    write_atomically(job.folder / LOSSES, losses_table(losses, held_out))
    write_atomically(job.folder / CURVE, loss_svg(losses, held_out).encode())
    rows = [(sample, job.drawing(sample, ""), job.drawing(sample, revision)) for sample in job.drawn]
    sheet = write_atomically(job.folder / SHEET, contact_sheet(rows)) if rows else None
    lineage = {
        "revision": revision,
        "base": base_model(job.spec),
        "settings": job.settings.model_dump(mode="json"),
        "samples": [sample_record(sample) for sample in job.samples],
        "held_out": [sample_record(sample) for sample in job.held_out],
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
    write_atomically(job.folder / LINEAGE, json.dumps(lineage, indent=1, ensure_ascii=False).encode())
    return FineTuned(job.folder / LORA, revision, lineage, losses, sheet, float(trained["seconds"]))


def sample_record(sample: RemovalSample) -> dict[str, str]:
    """Return what the lineage records of a sample."""
    return {name: getattr(sample, name) for name in ("item_id", "pair", "verdict", "prompt")}


def base_model(spec: ModelSpec) -> dict[str, Any]:
    """Describe the model that was trained, without the folders of this machine."""

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
