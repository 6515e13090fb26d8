"""One of the processes of a training: its rank, its device, and its share of the work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ffpdata.core.errors import FatalError
from ffpdata.models import gpu_memory
from ffpdata.models.weights import torch_device
from ffpdata.training.launch import report_progress

if TYPE_CHECKING:
    import torch

    from ffpdata.training.job import Job

T = TypeVar("T")

REMEDY = "Set gradient_checkpointing to offload, lower the rank, train on a smaller clip, or on a larger card."


class TrainingProcess:
    """This process among those of a job, as the environment variables of torchrun or Ray Train say.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
        device: the torch device that it trains on.

    Raises:
        FatalError: the job wants more GPUs than are visible.
    """

    def __init__(self, job: Job[Any, Any]) -> None:
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.device = self._device(job)

    def report(self, line: str) -> None:
        """Report a line of progress, once for all processes."""
        if self.rank == 0:
            report_progress(line)

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """Return this process's part of the work: every `world`-th entry, so that the parts are nearly equal."""
        return work[self.rank :: self.world]

    def memory(self, doing: str) -> contextlib.AbstractContextManager[None]:
        """Turn an out-of-memory error in a with block into a GpuMemoryError that says what to change.

        Args:
            doing: what needs the memory, for the message.
        """
        return gpu_memory.gpu_memory(self.device, doing, REMEDY)

    def release_memory(self) -> None:
        """Return cached memory to the device."""
        gpu_memory.release(self.device)

    def wait(self) -> None:
        """Wait until all processes are here."""
        import torch

        if self.world > 1:
            torch.distributed.barrier()

    def _device(self, job: Job[Any, Any]) -> torch.device:
        import torch

        if job.settings.gpus == 0:
            return torch.device("cpu")
        device = torch_device(job.spec)
        if device.type == "cpu":
            return device
        if self.world == 1:
            os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
            return device
        local = int(os.environ["LOCAL_RANK"])
        wanted = job.settings.gpus
        if torch.cuda.device_count() < wanted:
            raise FatalError(f"gpus is {wanted}, but {torch.cuda.device_count()} are visible here: set fewer")
        torch.cuda.set_device(local)
        return torch.device("cuda", local)
