"""Several processes, one GPU each, that generate one clip together: diffsynth's unified sequence parallel.

Each rank loads the whole model and runs the same call on its share of the sequence; rank 0 returns the result.
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
    from ffpdata.models.protocols import Edit
    from ffpdata.models.wan.loading import LoadPlan
    from ffpdata.models.wan.request import Request
    from ffpdata.models.wan.settings import Lora

STOP_SECONDS = 10.0
"""Seconds that a rank has to exit by itself."""


class Ranks:
    """Processes that each build an object and call it at the same time.

    Args:
        build: makes the object in each process; importable by name. The object has `generate(*arguments)`.
        arguments: arguments of `build`.
        size: number of processes; they have torch.distributed's usual environment variables.
    """

    def __init__(self, build: Callable[..., Any], arguments: Sequence[Any], size: int) -> None:
        self._build, self._arguments, self._size = build, tuple(arguments), size
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self._start()

    def call(self, *arguments: Any) -> Any:
        """Call every rank's object and return the result of rank 0.

        Raises:
            RetryableError: a rank died; the others were stopped, and the next call restarts all.
            FfpdataError: raised by a rank; other exceptions become a RuntimeError with their traceback.
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
            environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self._size, "MASTER_PORT": port}
            process = context.Process(
                target=_serve,
                args=(theirs, environment, self._build, self._arguments),
                name=f"rank-{rank}",
                daemon=True,
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._gather()

    def _gather(self) -> Any:
        """Wait for all ranks, or until the first fails: the others may hang in a collective operation."""
        waiting = dict(zip(self._pipes, range(self._size), strict=True))
        first = None
        while waiting:
            for pipe in wait(list(waiting)):
                rank = waiting.pop(pipe)  # type: ignore[call-overload]
                try:
                    succeeded, answer = pipe.recv()  # type: ignore[union-attr]
                except (EOFError, OSError):
                    raise self._died(rank) from None
                if not succeeded:
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


def _serve(
    pipe: Connection, environment: dict[str, int], build: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in environment.items()}}
    try:
        built = build(*arguments)
        pipe.send((True, None))
        while True:
            answer = built.generate(*pipe.recv())
            pipe.send((True, answer if environment["RANK"] == 0 else None))
    except (EOFError, KeyboardInterrupt):
        return
    except FfpdataError as err:
        pipe.send((False, err))
    except Exception:  # noqa: BLE001 - raised again in the parent
        pipe.send((False, RuntimeError(f"rank {environment['RANK']} failed:\n{traceback.format_exc()}")))


def _end_with_parent() -> None:
    """Exit when the parent process was killed, even in the middle of a clip."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


class _Rank:
    """The pipeline in one of the processes."""

    def __init__(self, plan: LoadPlan) -> None:
        from ffpdata.models.wan.engine import DiffsynthEngine

        self._engine = DiffsynthEngine(plan)

    def generate(self, request: Request, loras: Sequence[Lora]) -> Edit:
        return self._engine.run(request, loras)


class RankedEngine:
    """A pipeline on all GPUs visible to this process."""

    def __init__(self, plan: LoadPlan) -> None:
        import torch

        if torch.cuda.device_count() < plan.ranks:
            raise ConfigError(
                f"runtime sequence_parallel is {plan.ranks}, but this process sees {torch.cuda.device_count()} GPUs: "
                "give the role's resources as many `gpus`"
            )
        self._ranks = Ranks(_Rank, [plan], plan.ranks)

    def run(self, request: Request, loras: Sequence[Lora] = ()) -> Edit:
        """Generate on all ranks, as `DiffsynthEngine.run`."""
        answer: Edit = self._ranks.call(request, tuple(loras))
        return answer

    def close(self) -> None:
        """Stop the ranks."""
        self._ranks.close()
