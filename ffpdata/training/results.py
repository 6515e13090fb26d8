"""What stands in the folder of a finished training: weights, lineage, losses and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffpdata.core.stage import ModelSpec
from ffpdata.training.atomic_files import remove_temporary_files, write_atomically
from ffpdata.training.contact_sheet import contact_sheet
from ffpdata.training.job import TRAINED, Job
from ffpdata.training.launch import launch
from ffpdata.training.losses import loss_svg, losses_table
from ffpdata.training.trainer import revision_of

LINEAGE, SHEET, LOSSES, CURVE, LOG = "lineage.json", "validation.jpg", "losses.csv", "loss.svg", "train.log"
"""Files in the folder of a training, beside those of its processes."""


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        weights: its files by stem.
        revision: digest of their bytes.
        lineage: base model, settings, samples and losses, as in `lineage.json`.
        losses: (step, loss), from step 1.
        sheet: contact sheet of the validation; None where nothing was drawn.
        seconds: time spent on steps, over all starts.
    """

    weights: dict[str, Path]
    revision: str
    lineage: dict[str, Any]
    losses: list[tuple[int, float]]
    sheet: Path | None
    seconds: float


def train(job: Job[Any, Any], say: Callable[[str], None]) -> Trained:
    """Do a job in processes of its own; one that was interrupted is resumed, a finished one returns at once.

    Args:
        job: with the absolute path of its folder.
        say: called with each line of progress.

    Raises:
        ConfigError: a sample does not fit, or too little memory.
        FatalError: too little disk, a file that cannot be read, a loss that is not finite (the message names step and
            sample), or a process that died (with the end of its log).
        GpuMemoryError: the device was full although the estimate fitted.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    if (found := finished(job)) is not None:
        say(f"already trained: revision {found.revision}")
        return found
    for part in ("", "latents", "drawings", "checkpoints"):
        remove_temporary_files(job.folder / part)
    if job.settings.nodes > 1:
        launch("ffpdata.training.ray_nodes", job.write(), 1, job.folder / LOG, say)
    else:
        launch("ffpdata.training.trainer", job.write(), job.processes, job.folder / LOG, say)
    return write_results(job)


def finished(job: Job[Any, Any]) -> Trained | None:
    """Return the result of an earlier call for the same job; None where it has none or did not finish."""
    try:
        trained = json.loads((job.folder / TRAINED).read_text(encoding="utf-8"))
        lineage = json.loads((job.folder / LINEAGE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    expected = (job.fingerprint, job.steps)
    if (trained["fingerprint"], trained["step"]) != expected or lineage.get("revision") != trained["revision"]:
        return None
    drawings = [job.drawing(sample, revision) for sample in job.drawn for revision in ("", trained["revision"])]
    if not all(job.weights_file(stem).is_file() for stem in job.files) or revision_of(job) != trained["revision"]:
        return None
    return write_results(job) if all(path.is_file() for path in drawings) else None


def write_results(job: Job[Any, Any]) -> Trained:
    """Write contact sheet, losses and lineage of a training that has finished."""
    trained = json.loads((job.folder / TRAINED).read_text(encoding="utf-8"))
    losses = [(int(step), float(loss)) for step, loss in trained["losses"]]
    held_out = [(int(step), float(loss)) for step, loss in trained["held_out"]]
    terms = {name: [(int(step), float(value)) for step, value in part] for name, part in trained["terms"].items()}
    revision = str(trained["revision"])
    settings = job.settings
    if terms:
        terms = {"learning_rate": [(step, settings.rate(step - 1, job.steps)) for step, _ in losses], **terms}
    write_atomically(job.folder / LOSSES, losses_table(losses, held_out, terms))
    write_atomically(job.folder / CURVE, loss_svg(losses, held_out, terms).encode())
    rows = [(sample, job.drawing(sample, ""), job.drawing(sample, revision)) for sample in job.drawn]
    sheet = write_atomically(job.folder / SHEET, contact_sheet(rows)) if rows else None
    lineage = {
        "revision": revision,
        "base": base_model(job.spec),
        "settings": settings.model_dump(mode="json"),
        **job.lineage(),
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
    weights = {stem: job.weights_file(stem) for stem in job.files}
    return Trained(weights, revision, lineage, losses, sheet, float(trained["seconds"]))


def plain_name(model: str) -> str:
    """Return the name of a checkpoint without the folders of this machine."""
    return Path(model).name if model.startswith(("/", ".", "~")) else model


def base_model(spec: ModelSpec) -> dict[str, Any]:
    """Describe the model that was trained, without the folders of this machine."""
    loras = [{**lora, "model": plain_name(str(lora.get("model", "")))} for lora in spec.settings.get("loras", [])]
    parts = spec.settings.get("sources", {})
    sources = {part: {**entry, "model": plain_name(str(entry["model"]))} for part, entry in parts.items()}
    return {
        "backend": spec.backend,
        "model": plain_name(spec.model),
        "revision": spec.revision,
        "label": spec.label.replace(spec.model, plain_name(spec.model), 1),
        "licence": spec.licence,
        "sources": sources,
        "laid_over_when_drawing": loras,
    }
