"""Several processes, one GPU each, that work on one clip: what diffsynth calls unified sequence parallel.

Each rank loads the whole model and runs the same call on its share of the sequence; the first one's answer counts.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from ffpdata.core.errors import ConfigError, FfpdataError, RetryableError
from ffpdata.processes.ports import free_port

if TYPE_CHECKING:
    from ffpdata.models.protocols import Frames
    from ffpdata.models.wan.loading import LoadPlan
    from ffpdata.models.wan.request import Request
    from ffpdata.models.wan.settings import Lora

STOP_SECONDS = 10.0
"""Time that a rank has to leave by itself."""


class Ranks:
    """Processes that each build an object and then call it together.

    Args:
        build: makes the object, in each process; importable by name. It has `generate(*arguments)` and `close()`.
        arguments: for `build`.
        size: number of processes. They find each other by torch.distributed's usual environment variables.
    """

    def __init__(self, build: Callable[..., Any], arguments: Sequence[Any], size: int) -> None:
        self._build, self._arguments, self._size = build, tuple(arguments), size
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self._start()

    def call(self, *arguments: Any) -> Any:
        """Call every rank's object and return the first one's answer.

        Raises:
            RetryableError: a rank died; the others were stopped, and the next call starts them anew.
            FfpdataError: what a rank raised of ours; anything else comes as RuntimeError with its traceback.
        """
        if not self._processes:
            self._start()
        for rank, pipe in enumerate(self._pipes):
            try:
                pipe.send(arguments)
            except OSError:
                raise self._died(rank) from None
        return self._gather()

    def close(self) -> None:
        """Stop the processes."""
        self._stop(STOP_SECONDS)

    def _stop(self, seconds: float) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(seconds)
            if process.is_alive():
                process.kill()
                process.join()
        self._pipes, self._processes = [], []

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        port = free_port()
        for rank in range(self._size):
            ours, theirs = context.Pipe()
            where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self._size, "MASTER_PORT": port}
            process = context.Process(
                target=_serve, args=(theirs, where, self._build, self._arguments), name=f"rank-{rank}", daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._gather()

    def _gather(self) -> Any:
        """Wait for all ranks. The first that fails ends the wait: the others may hang in a common operation."""
        waiting = dict(zip(self._pipes, range(self._size), strict=True))
        first = None
        while waiting:
            for pipe in wait(list(waiting)):
                rank = waiting.pop(pipe)  # type: ignore[call-overload]
                try:
                    good, answer = pipe.recv()  # type: ignore[union-attr]
                except (EOFError, OSError):
                    raise self._died(rank) from None
                if not good:
                    self._stop(0)
                    raise answer
                first = answer if rank == 0 else first
        return first

    def _died(self, rank: int) -> RetryableError:
        """Stop all ranks because one died, and return the error to raise."""
        self._processes[rank].join(STOP_SECONDS)
        code = self._processes[rank].exitcode
        self._stop(0)
        return RetryableError(f"rank {rank} of {self._size} died (exit code {code})")


def _serve(pipe: Connection, where: dict[str, int], build: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in where.items()}}
    try:
        built = build(*arguments)
        pipe.send((True, None))
        while True:
            answer = built.generate(*pipe.recv())
            pipe.send((True, answer if where["RANK"] == 0 else None))
    except (EOFError, KeyboardInterrupt):
        return
    except FfpdataError as err:
        pipe.send((False, err))
    except Exception:  # noqa: BLE001 - it is raised again where the call was made
        pipe.send((False, RuntimeError(f"rank {where['RANK']} failed:\n{traceback.format_exc()}")))


def _end_with_parent() -> None:
    """End this process when the one that started it was killed: it may be in the middle of a clip, or hang."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


class RankedEngine:
    """A pipeline spread over the GPUs that this process sees."""

    def __init__(self, plan: LoadPlan) -> None:
        import torch

        if torch.cuda.device_count() < plan.ranks:
            raise ConfigError(
                f"runtime sequence_parallel is {plan.ranks}, but this process sees {torch.cuda.device_count()} GPUs: "
                "give the role's resources as many `gpus`"
            )
        from ffpdata.models.wan.engine import DiffsynthEngine

        self._ranks = Ranks(DiffsynthEngine, [plan], plan.ranks)

    def generate(self, request: Request, loras: Sequence[Lora] = ()) -> Frames:
        """Generate on all ranks; as DiffsynthEngine's."""
        frames: Frames = self._ranks.call(request, tuple(loras))
        return frames

    def close(self) -> None:
        """Stop the ranks."""
        self._ranks.close()
