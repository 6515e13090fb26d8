"""A full GPU as a typed error, and memory given back."""

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

NEIGHBOURS_GIB = 2.0
"""Memory held on a device by other processes from which on they, and not this clip, may be why it is full. A process
that does nothing holds about half a GiB."""


class GpuMemoryError(FfpdataError, MemoryError):
    """The clip does not fit the GPU as the profile runs the model: the item fails with `out_of_memory`.

    It is not tried again in place: the same clip needs the same memory. Where other processes fill the device,
    `RetryableError` is raised instead.
    """


@contextlib.contextmanager
def inference(device: torch.device, doing: str, remedy: str) -> Iterator[None]:
    """Run a model without gradients; cached memory goes back to the device at the end, so that others can have it.

    Arguments and errors as for `gpu_memory`.
    """
    import torch

    try:
        with torch.inference_mode(), gpu_memory(device, doing, remedy):
            yield
    finally:
        release(device)


@contextlib.contextmanager
def gpu_memory(device: torch.device, doing: str, remedy: str) -> Iterator[None]:
    """Turn torch's out-of-memory error into ours.

    Args:
        device: where the work runs.
        doing: what needs the memory, e.g. `VACE on 1280 x 720 x 81`.
        remedy: what the user can change.

    Raises:
        GpuMemoryError: the work itself needs more than there is.
        RetryableError: other processes hold a part of the device.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as err:
        said = str(err).splitlines()[0]
        peak = torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else 0.0
        traceback.clear_frames(err.__traceback__)  # they hold the tensors
        release(device)
        others, total = _others(device)
        if others >= NEIGHBOURS_GIB:
            raise RetryableError(
                f"{doing}: the GPU is full; other processes hold {others:.1f} of its {total:.1f} GiB ({said})"
            ) from None
        raise GpuMemoryError(
            f"{doing}: out of GPU memory at {peak:.1f} of {total:.1f} GiB ({said}). {remedy}"
        ) from None


def clip_size(frames: Frames) -> str:
    """Say how large a clip, uint8 (T, H, W, 3), is: `1280 x 720 x 81`."""
    count, height, width, _ = frames.shape
    return f"{width} x {height} x {count}"


def release(device: torch.device) -> None:
    """Collect what nothing refers to and give cached memory back to the device."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _others(device: torch.device) -> tuple[float, float]:
    """Memory held by other processes, and all there is, GiB; zeros where the device keeps no count."""
    import torch

    if device.type != "cuda":
        return 0.0, 0.0
    free, total = torch.cuda.mem_get_info(device)
    return max(0.0, (total - free - torch.cuda.memory_reserved(device)) / GIB), total / GIB
