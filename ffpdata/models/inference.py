"""One clip on a device: no gradients, memory given back, and a full GPU as an error that is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ffpdata.core.errors import RetryableError

if TYPE_CHECKING:
    import torch


@contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """Run a model without gradients; cached memory goes back to the device at the end, so that others can have it.

    Raises:
        RetryableError: the device's memory is full; a stage that shares the GPU may have taken it.
    """
    import torch

    try:
        with torch.inference_mode():
            yield
    except torch.OutOfMemoryError as err:
        raise RetryableError(f"{device}: out of memory ({str(err).splitlines()[0]})") from None
    finally:
        release(device)


def release(device: torch.device) -> None:
    """Give unused cached memory back to the device."""
    import gc

    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
