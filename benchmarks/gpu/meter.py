"""Time and peak memory by phase, and models with random weights made directly on the device."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

GIB = 1024**3


class Meter:
    """Seconds and peak memory of named phases, each closed by waiting for the device."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.cuda = self.device.type == "cuda"
        self.seconds: dict[str, list[float]] = {}
        self.allocated: dict[str, float] = {}
        self.reserved: dict[str, float] = {}

    def wait(self) -> None:
        """Wait until the device has done all it was given."""
        if self.cuda:
            torch.cuda.synchronize()

    def _note_peak(self, name: str) -> None:
        if not self.cuda:
            return
        for found, peak in (
            (self.allocated, torch.cuda.max_memory_allocated()),
            (self.reserved, torch.cuda.max_memory_reserved()),
        ):
            found[name] = max(found.get(name, 0.0), peak / GIB)
        torch.cuda.reset_peak_memory_stats()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure one run of a phase; memory used since the last phase is noted under `other`."""
        self.wait()
        self._note_peak("other")
        start = time.perf_counter()
        try:
            yield
            self.wait()
            self.seconds.setdefault(name, []).append(time.perf_counter() - start)
        finally:
            self._note_peak(name)

    def watch(self, owner: Any, attribute: str, name: str) -> None:
        """Measure every call of a method as a phase."""
        original = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return original(*args, **kwargs)

        setattr(owner, attribute, timed)

    def memory(self) -> dict[str, Any]:
        """Return peak GiB over all phases and by phase, None where the device keeps no count."""
        self._note_peak("other")
        return {
            "peak_allocated_gib": max(self.allocated.values(), default=None),
            "peak_reserved_gib": max(self.reserved.values(), default=None),
            "peak_allocated_by_phase_gib": dict(self.allocated),
        }


def free_memory() -> None:
    """Give back what the last measurement held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@contextlib.contextmanager
def memory_cap(gib: float | None) -> Iterator[None]:
    """Let the allocator have at most so many GiB, as on a smaller card: beyond it, it is out of memory."""
    if gib is None or not torch.cuda.is_available():
        yield
        return
    torch.cuda.set_per_process_memory_fraction(min(1.0, gib * GIB / torch.cuda.mem_get_info()[1]))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def random_model(
    make: Callable[[], nn.Module], device: str, dtype: torch.dtype, *, keep_on: str | None = None
) -> nn.Module:
    """Build a model with random weights, never holding a second copy of it.

    Weights are drawn on `device` so that activations keep their scale (normal, variance 1 / fan-in; gains 1, biases
    0) and stored on `keep_on` where that is given: a model that waits in main memory.
    """
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model = make()
    model.eval().requires_grad_(requires_grad=False)
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in made:
                value = _random(name, parameter, device, dtype).to(keep_on or device)
                made[id(parameter)] = nn.Parameter(value, requires_grad=False)
            setattr(module, name, made[id(parameter)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            kept = name not in module._non_persistent_buffers_set and buffer.is_floating_point()
            setattr(module, name, buffer.to(keep_on or device, dtype=dtype if kept else None))
    return model


def _random(name: str, parameter: nn.Parameter, device: str, dtype: torch.dtype) -> torch.Tensor:
    value = torch.empty(parameter.shape, device=device, dtype=dtype)
    if name.endswith("bias"):
        return value.zero_()
    if name == "gamma" or value.ndim < 2:
        return value.fill_(1.0)
    return value.normal_(std=(value[0].numel() or 1) ** -0.5)


def weights_gib(*models: nn.Module | None) -> float:
    """Return the size of the models' weights."""
    return sum(p.numel() * p.element_size() for model in models if model is not None for p in model.parameters()) / GIB
