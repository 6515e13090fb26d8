"""Run models on a GPU: out-of-memory as a typed error, cached memory released afterwards."""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ffpdata.core.errors import FfpdataError, RetryableError

if TYPE_CHECKING:
    import torch

    from ffpdata.models.protocols import Frames

GIB = 1024**3

OTHERS_GIB = 2.0
"""Memory of other processes from which an out-of-memory error is blamed on them and retried. An idle CUDA process holds
about half a GiB."""


class GpuMemoryError(FfpdataError, MemoryError):
    """The clip does not fit the GPU with the profile's settings: the item fails with `out_of_memory`.

    It is not retried: the same clip needs the same memory. Where other processes fill the device, `RetryableError` is
    raised instead.
    """


@contextlib.contextmanager
def inference(device: torch.device, work: str, remedy: str) -> Iterator[None]:
    """Run a model without gradients, and release a GPU's cached memory at the end, so that other processes can use it.

    On a CPU there is no such cache, and a collection takes half a second once the models' libraries are loaded.

    Arguments and errors as for `gpu_memory`.
    """
    import torch

    try:
        with torch.inference_mode(), gpu_memory(device, work, remedy):
            yield
    finally:
        if device.type != "cpu":
            release(device)


@contextlib.contextmanager
def gpu_memory(device: torch.device, work: str, remedy: str) -> Iterator[None]:
    """Turn torch's out-of-memory error into a typed one.

    Args:
        device: device of the model.
        work: name of the work in the message, e.g. `VACE on 1280 x 720 x 81`.
        remedy: advice at the end of the message.

    Raises:
        GpuMemoryError: the work needs more memory than the device has.
        RetryableError: other processes hold `OTHERS_GIB` or more.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as err:
        message = str(err).splitlines()[0]
        peak = torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else 0.0
        traceback.clear_frames(err.__traceback__)  # they hold the tensors
        release(device)
        others, total = _memory_of_others(device)
        if others >= OTHERS_GIB:
            raise RetryableError(
                f"{work}: the GPU is full; other processes hold {others:.1f} of its {total:.1f} GiB ({message})"
            ) from None
        raise GpuMemoryError(
            f"{work}: out of GPU memory at {peak:.1f} of {total:.1f} GiB ({message}). {remedy}"
        ) from None


def clip_size(frames: Frames) -> str:
    """Return width, height and length of a clip, uint8 (T, H, W, 3), as text: `1280 x 720 x 81`."""
    count, height, width, _ = frames.shape
    return f"{width} x {height} x {count}"


def release(device: torch.device) -> None:
    """Run the garbage collector and release torch's cached memory."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _memory_of_others(device: torch.device) -> tuple[float, float]:
    """Return the memory of other processes and the total, GiB; zeros for the CPU."""
    import torch

    if device.type != "cuda":
        return 0.0, 0.0
    free, total = torch.cuda.mem_get_info(device)
    return max(0.0, (total - free - torch.cuda.memory_reserved(device)) / GIB), total / GIB
