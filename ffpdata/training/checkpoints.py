"""Checkpoints of a training on disk: one safetensors file each, the last two kept."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ffpdata.training.atomic_files import remove_temporary_files, write_atomically

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

logger = logging.getLogger(__name__)

KEPT = 2
"""Number of checkpoints that are kept: the newest, and the one before it in case the newest cannot be read."""

_NAME = re.compile(r"step-(\d{8})\.safetensors$")


@dataclass
class Progress:
    """What a training has done so far, beside its weights.

    Attributes:
        step: number of steps done.
        losses: (step, loss), from step 1: the mean over all samples of a step.
        held_out: (step, loss), from step 0: the loss before the first step.
        seconds: time spent on steps, over all starts.
        terms: parts of the training loss by name, each as (step, mean over the samples of the step that have it).
    """

    step: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    terms: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def save(folder: Path, fingerprint: str, progress: Progress, state: Tensors) -> Path:
    """Write a checkpoint atomically, and remove all but it and the one before it.

    Args:
        folder: of the checkpoints of one training.
        fingerprint: what the weights depend on (`Job.fingerprint`).
        progress: stored with the weights.
        state: weights and optimizer state.

    Raises:
        FatalError: the disk is full or cannot be written.
    """
    from safetensors.torch import save as to_bytes

    metadata = {"fingerprint": fingerprint, "progress": json.dumps(vars(progress))}
    path = folder / f"step-{progress.step:08d}.safetensors"
    write_atomically(path, to_bytes(dict(state), metadata=metadata))
    remove_temporary_files(folder)
    found = _newest_first(folder)
    before = [other for other in found if other.name < path.name][: KEPT - 1]
    for other in found:
        if other not in (path, *before):
            other.unlink(missing_ok=True)
    return path


def load(folder: Path, fingerprint: str, last_step: int) -> tuple[Progress, Tensors] | None:
    """Read the newest checkpoint with this fingerprint; None where there is none.

    One that cannot be read is skipped with a warning.

    Args:
        folder: as for `save`.
        fingerprint: checkpoints with another one are skipped.
        last_step: checkpoints of later steps are skipped.
    """
    from safetensors import SafetensorError, safe_open

    for path in _newest_first(folder):
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                progress = Progress(**json.loads(metadata.get("progress", "{}")))
                if metadata.get("fingerprint") != fingerprint or progress.step > last_step:
                    continue
                return progress, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, ValueError, TypeError) as err:
            logger.warning("%s cannot be read and is skipped: %s", path, err)
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step-*") if _NAME.match(path.name)), reverse=True)
