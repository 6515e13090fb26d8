"""Labels of what a Wan model runs with, for the manifest, the dataset card and the report: LoRAs and kernel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING

from ffpdata.models.wan.attention import resolve

if TYPE_CHECKING:
    from ffpdata.models.wan.settings import Lora, WanSettings


def wan_labels(settings: WanSettings, ranks: int = 1) -> tuple[str, ...]:
    """Return the labels of a role's LoRAs, of its attention kernel, and of 8-bit layers, compiled blocks and a cache.

    For instance `removal@ab12cd34`, `sdpa`, `fp8`, `compiled`.
    """
    quantised = getattr(settings, "quantization", "none")
    cached = [name for name in ("tea_cache", "taylor_cache") if getattr(settings, name, None)]
    more = [
        *([quantised] if quantised != "none" else []),
        *(["compiled"] if getattr(settings, "compile", False) else []),
    ]
    return (*lora_labels(settings.loras), resolve(settings.attention, ranks), *more, *cached)


def lora_labels(loras: Iterable[Lora]) -> tuple[str, ...]:
    """Return one label per LoRA, its file name or the last part of its source, and revision: `removal@ab12cd34`."""
    return tuple(_label(lora) for lora in loras)


def _label(lora: Lora) -> str:
    path = PurePath(lora.file or lora.model)
    name = path.stem if path.suffix == ".safetensors" else path.name
    return f"{name}@{lora.revision}" if lora.revision else name
