"""What a model computes and how much memory it holds at once, counted without running it.

On the device `meta` tensors have shapes and no values, so the libraries' own code runs at full size in seconds on any
machine: each operation's arithmetic is added up and every storage is followed from its creation to its release. Not
counted: the kernels' own workspace, fragmentation, the driver.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from benchmarks.gpu.meter import GIB, Meter

BLOCK = 512
"""Bytes to which PyTorch's CUDA allocator rounds every request."""


class Tally(TorchDispatchMode):
    """Adds up floating-point operations and follows the bytes of live storages."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # an operation made of others (`linear`, in inference mode) counts as those
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        # What an operation is given and no operation made is a weight, and weights are counted apart.
        tree_map_only(torch.Tensor, lambda tensor: self._note(tensor, made=False), (args, kwargs))
        out = func(*args, **kwargs)
        if formula is not None:
            self.flops += int(formula(*args, **kwargs, out_val=out))
        tree_map_only(torch.Tensor, self._note, out)
        return out

    def _note(self, tensor: torch.Tensor, *, made: bool = True) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known and tensor.device.type == "meta":
            size = -(-storage.nbytes() // BLOCK) * BLOCK if made else 0
            self._known.add(storage._cdata)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._drop, storage._cdata, size)
        return tensor

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


class Counter(Meter):
    """A Meter that counts where there is no device to time; seconds are those of counting and mean nothing."""

    def __init__(self, tally: Tally) -> None:
        super().__init__("meta")
        self.tally = tally
        self.flops: dict[str, list[float]] = {}

    def _note_peak(self, name: str) -> None:
        self.allocated[name] = max(self.allocated.get(name, 0.0), self.tally.peak / GIB)
        self.tally.peak = self.tally.live

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count one run of a phase."""
        before = self.tally.flops
        with super().phase(name):
            yield
        self.flops.setdefault(name, []).append((self.tally.flops - before) / 1e12)

    def memory(self) -> dict[str, Any]:
        """Return peak GiB of live tensors beside the weights, and TFLOP of each phase, the mean of its runs."""
        found = super().memory()
        return {
            "live_gib": found["peak_allocated_gib"],
            "live_by_phase_gib": found["peak_allocated_by_phase_gib"],
            "tflop": {name: sum(runs) / len(runs) for name, runs in self.flops.items()},
            "runs": {name: len(runs) for name, runs in self.flops.items()},
        }


@contextlib.contextmanager
def measuring(device: str) -> Iterator[Meter]:
    """Yield a Meter of that device; on `meta`, one that counts."""
    if device == "meta":
        with counting() as counter:
            yield counter
    else:
        yield Meter(device)


@contextlib.contextmanager
def counting() -> Iterator[Counter]:
    """Count everything that runs inside."""
    attention = torch.nn.functional.scaled_dot_product_attention
    with Tally() as tally:

        def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            # A GPU never holds the matrix of scores; the fallback for `meta` would.
            tally.flops += 4 * query[..., 0].numel() * key.shape[-2] * query.shape[-1]
            return query.new_empty(*query.shape[:-1], value.shape[-1])

        torch.nn.functional.scaled_dot_product_attention = fused
        try:
            yield Counter(tally)
        finally:
            torch.nn.functional.scaled_dot_product_attention = attention
