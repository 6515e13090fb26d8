"""What lies over a model's own weights, in the words of its label."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ffpdata.models.wan.settings import Lora


def lora_labels(loras: Iterable[Lora]) -> tuple[str, ...]:
    """Name each LoRA by its file, or by the last part of its source: `removal@ab12cd34`, or `removal`."""
    return tuple(_label(lora) for lora in loras)


def _label(lora: Lora) -> str:
    path = PurePath(lora.file or lora.model)
    name = path.stem if path.suffix == ".safetensors" else path.name
    return f"{name}@{lora.revision}" if lora.revision else name
