"""Checks that a training fits this machine's memory and disk, before anything is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.models.wan.memory_estimate import GIB, ClipSize, Network, training_memory
from ffpdata.training.checkpoints import KEPT
from ffpdata.training.sample import Sample

if TYPE_CHECKING:
    import torch

    from ffpdata.models.wan.loading import LoadPlan
    from ffpdata.training.method import Method

S = TypeVar("S", bound=Sample)

CHECKPOINT_BYTES = 12
"""Bytes per trained weight: the weight and AdamW's two moments, in float32."""

SPARE_BYTES = 2**28
"""Bytes for drawings, the contact sheet, losses and the log."""

CHEAPER = {"off": "on", "on": "offload"}
"""Value of `gradient_checkpointing` to the next one that takes less memory."""


def network_of(plan: LoadPlan, trained: str, say: Callable[[str], None]) -> tuple[Network | None, int]:
    """Read the sizes of a transformer from the headers of its files.

    Args:
        plan: how the transformer is loaded.
        trained: the blocks that learn, as in `Network.of`.
        say: called where they cannot be read.

    Returns:
        Its sizes, None where the weights are pickles; and the bytes of one weight as loaded.
    """
    item_bytes = 4 if plan.dtype == "float32" else 2
    files = [file for _, part in plan.parts.files for file in part]
    if not all(file.endswith(".safetensors") for file in files):
        say("memory and disk are not counted: the weights are pickles")
        return None, item_bytes
    return Network.of(files, trained), item_bytes


def preflight(  # noqa: PLR0917 - what a method knows of its job
    method: Method[S],
    network: Network,
    learned: int,
    item_bytes: int,
    size: Callable[[S], ClipSize],
    aligned: Callable[[ClipSize], int] = lambda _: 0,
) -> None:
    """Estimate the memory and disk that a job needs and compare them with what is free.

    Args:
        method: of the job; gives the estimated size of latents.
        network: sizes of the transformer.
        learned: number of weights that are trained.
        item_bytes: of one weight as loaded.
        size: of a sample's clip.
        aligned: bytes that losses on features of a clip take.

    Raises:
        FatalError: too little disk.
        ConfigError: too little memory; it says what to change.
    """
    job, process = method.job, method.process
    settings, say, device = job.settings, process.report, process.device
    samples = {sample.item_id: sample for sample in (*job.samples, *job.measured)}
    missing = [sample for sample in samples.values() if not job.latents_file(sample).is_file()]
    latents = sum(method.latent_bytes(sample) for sample in missing)
    if settings.latent_cache_gb is not None:
        latents = min(latents, int(settings.latent_cache_gb * 1e9))
    need = latents + (KEPT + 1) * CHECKPOINT_BYTES * learned + item_bytes * learned + SPARE_BYTES
    check_disk(job.folder, need)
    largest = max({size(sample) for sample in samples.values()}, key=lambda clip: clip.tokens)
    memory = training_memory(network, largest, learned, settings.gradient_checkpointing, item_bytes)
    memory = replace(memory, aligned=aligned(largest) / GIB)
    say(
        f"{len(job.samples)} samples, {len(job.held_out)} held out; {learned / 1e6:.1f} million weights learn beside "
        f"{network.weights / 1e9:.1f} billion; {need / 1e9:.1f} GB of disk"
    )
    say(
        f"estimate for {largest}: {memory.gpu:.1f} GiB on the device ({memory}), {memory.offloaded:.1f} GiB kept in "
        "main memory"
    )
    remedy = "use a smaller clip or model"
    if cheaper := CHEAPER.get(settings.gradient_checkpointing):
        remedy = f"set gradient_checkpointing to {cheaper}, or {remedy}"
    if device.type == "cuda":
        check_card(memory.gpu, *card(device), f"training on {largest} ({memory})", remedy)
    check_main_memory(memory.offloaded * max(1, settings.gpus), str(largest))


def check_disk(folder: Path, need: int) -> None:
    """Raise FatalError where less than `need` bytes are free."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise FatalError(
            f"{folder}: the training needs {need / 1e9:.1f} GB for latents and checkpoints, and {free / 1e9:.1f} are "
            "free: make room, or name a folder on another disk"
        )


def card(device: torch.device) -> tuple[float, str]:
    """Return a card's memory in GiB, and its name."""
    import torch

    return torch.cuda.get_device_properties(device).total_memory / GIB, torch.cuda.get_device_name(device)


def check_card(need: float, memory: float, name: str, what: str, remedy: str) -> None:
    """Raise ConfigError where a card has less memory than needed.

    Args:
        need: GiB.
        memory: of the card, GiB.
        name: of the card.
        what: needs the memory.
        remedy: what to change, for the message.
    """
    if need > memory:
        raise ConfigError(f"{what} takes about {need:.0f} GiB, and {name} has {memory:.0f}: {remedy}")


def check_main_memory(need: float, largest: str) -> None:
    """Raise ConfigError where less than `need` GiB of main memory are free."""
    free = free_memory()
    if free is not None and need > free:
        raise ConfigError(
            f"gradient_checkpointing offload keeps about {need:.0f} GiB in main memory on {largest}, and {free:.0f} "
            "are free: use fewer gpus on this machine, a smaller clip or model, or gradient_checkpointing on"
        )


def free_memory() -> float | None:
    """Return the GiB of main memory that are available; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable:")), None)
