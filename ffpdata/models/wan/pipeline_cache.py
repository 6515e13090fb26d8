"""Share one pipeline among all back ends of a process with the same weights and load options.

A remover with a LoRA and a swapper without one load the model once; each applies its own LoRAs before it generates.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ffpdata.core.errors import ConfigError
from ffpdata.models.requirements import Requirements, wants_gpu
from ffpdata.models.settings import parse_runtime
from ffpdata.models.wan import attention, precision
from ffpdata.models.wan.checkpoint_files import TRANSFORMERS, checkpoints, find_parts
from ffpdata.models.wan.inspection import lora_notes
from ffpdata.models.wan.loading import LoadPlan, require
from ffpdata.models.wan.loras import resolve_under_root
from ffpdata.models.wan.settings import DiffsynthRuntime, DiffsynthSettings, Source
from ffpdata.models.weights import torch_device, torch_dtype

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Edit
    from ffpdata.models.wan.request import Request
    from ffpdata.models.wan.settings import Lora


class Engine(Protocol):
    """A loaded pipeline."""

    def run(self, request: Request, loras: Sequence[Lora]) -> Edit:
        """Return frames, uint8 (T, H, W, 3), and facts."""

    def close(self) -> None:
        """Free the model."""


@dataclass
class _Shared:
    """An engine and the number of its users."""

    engine: Engine
    users: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


_shared: dict[LoadPlan, _Shared] = {}
_shared_lock = threading.Lock()


class SharedPipeline:
    """A back end's reference to a shared engine, with its own LoRAs."""

    def __init__(self, plan: LoadPlan, loras: Sequence[Lora]) -> None:
        self._plan, self._loras = plan, tuple(loras)
        with _shared_lock:
            if plan not in _shared:
                _shared[plan] = _Shared(_build_engine(plan))
            self._entry: _Shared | None = _shared[plan]
            self._entry.users += 1

    def generate(self, request: Request) -> Edit:
        """Generate frames, uint8 (T, H, W, 3), with this back end's LoRAs; other users of the engine wait."""
        if self._entry is None:
            raise RuntimeError("the model was closed")
        with self._entry.lock:
            return self._entry.engine.run(request, self._loras)

    def swap_loras(self, loras: Sequence[Lora]) -> None:
        """Use other LoRAs from the next generation on; an empty list removes them."""
        self._loras = tuple(loras)

    def close(self) -> None:
        """Release the engine; its last user frees the model."""
        with _shared_lock:
            entry, self._entry = self._entry, None
            if entry is None:
                return
            entry.users -= 1
            if not entry.users:
                del _shared[self._plan]
                entry.engine.close()


def wan_requirements(spec: ModelSpec, settings: DiffsynthSettings, parts: Sequence[str]) -> Requirements:
    """Return the packages and checkpoints that `shared_pipeline` needs; its arguments."""
    found = checkpoints(Source(model=spec.model, revision=spec.revision), settings.sources, parts)
    runtime = parse_runtime(DiffsynthRuntime, spec)
    loras = resolve_under_root(settings.loras, runtime.loras_root)
    transformers = [checkpoint for checkpoint in found if checkpoint.part in TRANSFORMERS]
    return Requirements(
        ("torch", "diffsynth"),
        (*found, *(lora.checkpoint() for lora in loras)),
        wants_gpu(spec),
        inspect=lambda: [
            attention.note(
                settings.attention, device=runtime.device, dtype=settings.dtype, ranks=runtime.sequence_parallel
            ),
            *lora_notes(loras, transformers[0]),  # of two, both have the same layers
            *precision.notes(settings, transformers, device=runtime.device),
        ],
    )


def shared_pipeline(
    spec: ModelSpec, settings: DiffsynthSettings, parts: Sequence[str], beside: Sequence[str] = ()
) -> SharedPipeline:
    """Load the model of a profile's role, or share it where another role has loaded it.

    Args:
        spec: names the checkpoint; its `runtime` is a DiffsynthRuntime.
        settings: its parsed settings.
        parts: parts of the pipeline, of `checkpoint_files.STEMS`.
        beside: models that the transformer's files hold beside it, as in `LoadPlan`.

    Raises:
        ConfigError: a setting is not valid, or does not fit the device.
        FatalError: weights are missing or of another model; there is no GPU, or the attention kernel is not there.
        GpuMemoryError: the model does not fit the device.
    """
    loras = resolve_under_root(settings.loras, parse_runtime(DiffsynthRuntime, spec).loras_root)
    plan = wan_plan(spec, settings, parts, beside)
    if plan.ranks == 1:
        attention.probe(attention.resolve(settings.attention), torch_device(spec), torch_dtype(plan.dtype))
    return SharedPipeline(plan, loras)


def wan_plan(
    spec: ModelSpec, settings: DiffsynthSettings, parts: Sequence[str], beside: Sequence[str] = ()
) -> LoadPlan:
    """Find the files of a role and return its load plan; arguments and errors as for `shared_pipeline`."""
    runtime = parse_runtime(DiffsynthRuntime, spec)
    require("torch", "diffsynth")
    device = torch_device(spec)
    if device.type == "cpu" and runtime.offload != "none":
        raise ConfigError(f"{spec.backend}: runtime offload keeps weights off a GPU: on the CPU leave it at none")
    attention.check(settings.attention, device=device.type, dtype=settings.dtype, ranks=runtime.sequence_parallel)
    precision.check(settings, device=device, ranks=runtime.sequence_parallel, offload=runtime.offload)
    source = Source(model=spec.model, revision=spec.revision)
    found = find_parts(source, settings.sources, parts, allow_pickle=runtime.allow_pickle)
    return LoadPlan(
        parts=found,
        dtype=settings.dtype,
        device=str(device),
        offload=runtime.offload,
        layer_limit_gib=runtime.layer_limit_gib,
        ranks=runtime.sequence_parallel,
        quantization=settings.quantization,
        compiled=settings.compile,
        beside=tuple(beside),
    )


def _build_engine(plan: LoadPlan) -> Engine:
    if plan.ranks == 1:
        from ffpdata.models.wan.engine import DiffsynthEngine

        return DiffsynthEngine(plan)
    from ffpdata.models.wan.sequence_parallel import RankedEngine

    return RankedEngine(plan)
