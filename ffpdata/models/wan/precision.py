"""How the Wan back ends compute beside their dtype: 8-bit layers and compiled blocks, and whether this machine can."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.models.requirements import Checkpoint, Note

if TYPE_CHECKING:
    import torch

    from ffpdata.models.wan.settings import DiffsynthSettings

Quantization = Literal["none", "fp8", "fp8_weights"]

FP8_CAPABILITY = (8, 9)
"""Compute capability from which NVIDIA's cards multiply 8-bit floats: Ada, Hopper, Blackwell."""

BLOCK_LAYER = re.compile(
    r"(?:vace_)?blocks\.\d+\..*\b(?:q|k|v|o|k_img|v_img|ffn\.0|ffn\.2|before_proj|after_proj)\.weight$"
)
"""Weights that are kept in 8 bits (`fp8.LAYERS`)."""

GIB = 1024**3


def check(settings: DiffsynthSettings, *, device: torch.device, ranks: int, offload: str) -> None:
    """Check what can be known before the weights are loaded.

    Raises:
        ConfigError: settings that exclude each other.
        FatalError: the device cannot multiply 8-bit floats, or nothing compiles here.
    """
    if settings.quantization == "fp8" and settings.dtype != "bfloat16":
        raise ConfigError(
            f"settings quantization 'fp8' gives bfloat16, and dtype is {settings.dtype}: set bfloat16, or fp8_weights"
        )
    if settings.quantization == "fp8" and device.type == "cuda":
        import torch

        found = torch.cuda.get_device_capability(device)
        if found < FP8_CAPABILITY:
            raise FatalError(
                f"settings quantization 'fp8': {torch.cuda.get_device_name(device)} has compute capability "
                f"{found[0]}.{found[1]}, and 8-bit products need {FP8_CAPABILITY[0]}.{FP8_CAPABILITY[1]}: set "
                "fp8_weights, which keeps the weights so and computes in bfloat16"
            )
    if settings.compile:
        if offload != "none" or ranks > 1:
            what = f"runtime offload {offload!r}" if offload != "none" else f"runtime sequence_parallel {ranks}"
            raise ConfigError(f"settings compile does not go with {what}, which moves weights or tokens inside a block")
        probe_compiler(device)


def probe_compiler(device: torch.device) -> None:
    """Compile a small function.

    Raises:
        FatalError: there is no compiler, or it does not work.
    """
    import torch

    def small(x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x) * 2 + 1

    try:
        torch.compile(small)(torch.zeros(16, device=device))
    except Exception as err:
        why = (str(err).splitlines() or [type(err).__name__])[0]
        needs = "a C++ compiler (apt-get install g++)" if device.type == "cpu" else "triton and a C compiler"
        raise FatalError(
            f"settings compile: torch.compile does not work on {device} ({why}): it needs {needs}"
        ) from err


def compile_blocks(models: Iterable[Any]) -> None:
    """Have the blocks of transformers and of VACE compiled when they first run; hooks and LoRAs go on as before."""
    import torch

    for model in models:
        for block in getattr(model, "blocks", None) or model.vace_blocks:
            block.forward = torch.compile(block.forward, dynamic=False)


def quantize_config(quantization: str) -> Any:
    """Return diffsynth's configuration for a setting; None where nothing is quantised."""
    if quantization == "none":
        return None
    from ffpdata.models.wan import fp8

    return fp8.config(quantization)


def weight_bytes(shapes: Iterable[tuple[str, Sequence[int]]], quantization: str, item_bytes: int) -> int:
    """Return the bytes of a transformer's weights on the device.

    Args:
        shapes: names and shapes of the checkpoint's parameters.
        quantization: the setting.
        item_bytes: of one weight that is not quantised.
    """
    total = 0
    for name, shape in shapes:
        count = 1
        for side in shape:
            count *= side
        if quantization != "none" and BLOCK_LAYER.match(name):
            total += count + 4 * shape[0]
        else:
            total += count * item_bytes
    return total


def notes(settings: DiffsynthSettings, transformers: Iterable[Checkpoint], *, device: str) -> list[Note]:
    """Say how a role would compute here, and what its transformers weigh, where they are on this machine."""
    found = []
    if settings.quantization != "none":
        found.append(_quantised(settings, transformers, device))
    if settings.compile:
        ready = device == "cpu" or importlib.util.find_spec("triton") is not None
        text = "blocks are compiled during the first clip: minutes" if ready else "triton is not installed"
        found.append(Note("ok" if ready else "error", "compile", text))
    return found


def _quantised(settings: DiffsynthSettings, transformers: Iterable[Checkpoint], device: str) -> Note:
    from ffpdata.models.wan.inspection import local_files
    from ffpdata.models.weights import safetensors_shapes

    how = {"fp8": "8-bit weights and products", "fp8_weights": f"8-bit weights, computed in {settings.dtype}"}
    text = how[settings.quantization]
    shapes: list[tuple[str, Sequence[int]]] = []
    try:
        for checkpoint in transformers:
            for file in local_files(checkpoint):
                shapes += safetensors_shapes(Path(file)).items()
    except FatalError:
        shapes = []  # the line about the checkpoint says so
    if shapes:
        size = 4 if settings.dtype == "float32" else 2
        small, large = (weight_bytes(shapes, kind, size) / GIB for kind in (settings.quantization, "none"))
        text += f": the transformer's weights take {small:.1f} GiB in place of {large:.1f}"
    problem = _cannot_multiply(device) if settings.quantization == "fp8" else ""
    return Note("error" if problem else "ok", settings.quantization, problem or text)


def _cannot_multiply(device: str) -> str:
    if not device.startswith("cuda") or importlib.util.find_spec("torch") is None:
        return ""
    import torch

    if not torch.cuda.is_available():
        return ""  # the line about the GPU says so
    found = torch.cuda.get_device_capability(device)
    if found >= FP8_CAPABILITY:
        return ""
    return f"compute capability {found[0]}.{found[1]}, needed {FP8_CAPABILITY[0]}.{FP8_CAPABILITY[1]}: set fp8_weights"
