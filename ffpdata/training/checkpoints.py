"""Where a training stands, on disk: one safetensors file each, the last two kept."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ffpdata.training.atomic_files import clean, write_whole

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

logger = logging.getLogger(__name__)

KEPT = 2
"""Checkpoints that stay: the one just written, and the one before it in case that cannot be read."""

_NAME = re.compile(r"step-(\d{8})\.safetensors$")


@dataclass
class Progress:
    """What is known of a training so far, beside its weights.

    Attributes:
        step: steps that are done.
        losses: (step, loss), from 1: the mean over all samples of a step.
        held_out: (step, loss), from 0: before the first step.
        seconds: spent on steps, all starts together.
    """

    step: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0


def save(folder: Path, fingerprint: str, progress: Progress, state: Tensors) -> Path:
    """Write a checkpoint, whole or not at all, and remove all but it and the one before it.

    Raises:
        FatalError: the disk is full or cannot be written.
    """
    from safetensors.torch import save as to_bytes

    notes = {"fingerprint": fingerprint, "progress": json.dumps(vars(progress))}
    path = folder / f"step-{progress.step:08d}.safetensors"
    write_whole(path, to_bytes(dict(state), metadata=notes))
    clean(folder)
    found = _found(folder)
    before = [other for other in found if other.name < path.name][: KEPT - 1]
    for other in found:
        if other not in (path, *before):
            other.unlink(missing_ok=True)
    return path


def load(folder: Path, fingerprint: str, at_most: int) -> tuple[Progress, Tensors] | None:
    """Read the newest checkpoint that fits; None where there is none.

    Args:
        folder: of `save`.
        fingerprint: others are left alone.
        at_most: a later step is not taken up.
    """
    from safetensors import SafetensorError, safe_open

    for path in _found(folder):
        try:
            with safe_open(path, framework="pt") as file:
                notes = file.metadata() or {}
                progress = Progress(**json.loads(notes.get("progress", "{}")))
                if notes.get("fingerprint") != fingerprint or progress.step > at_most:
                    continue
                return progress, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, ValueError, TypeError) as err:
            logger.warning("%s cannot be read and is not taken up: %s", path, err)
    return None


def _found(folder: Path) -> list[Path]:
    """Checkpoints, the newest first."""
    return sorted((path for path in folder.glob("step-*") if _NAME.match(path.name)), reverse=True)
