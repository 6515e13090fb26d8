"""Labels of LoRAs, for the manifest, the dataset card and the report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ffpdata.models.wan.settings import Lora


def lora_labels(loras: Iterable[Lora]) -> tuple[str, ...]:
    """Return one label per LoRA, its file name or the last part of its source, and revision: `removal@ab12cd34`."""
    return tuple(_label(lora) for lora in loras)


def _label(lora: Lora) -> str:
    path = PurePath(lora.file or lora.model)
    name = path.stem if path.suffix == ".safetensors" else path.name
    return f"{name}@{lora.revision}" if lora.revision else name
