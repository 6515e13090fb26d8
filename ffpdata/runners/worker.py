"""The process of a Ray worker: it sets stages up once and then executes tasks."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from ffpdata.core.errors import FatalError
from ffpdata.core.stage import Stage
from ffpdata.manifests.manifest import worker_label
from ffpdata.media import clip_cache
from ffpdata.models.packaged.used import require
from ffpdata.processes.turns import Turn, Turns
from ffpdata.runners.execute import execute_task
from ffpdata.runners.task import Outcome, Task
from ffpdata.storage.scratch import process_scratch
from ffpdata.storage.store import Store

WATCH_SECONDS = 0.25


@dataclass
class WorkerReply:
    """What a worker answers to a call.

    Attributes:
        outcomes: one per task.
        error: why the stage could not start, or why the run must stop.
        fatal: whether the run must stop.
        late: seconds that the tasks took so far, above the stage's limit: they go on, and the worker must be killed.
        seconds: how long the call took; where items take turns, how long it had the turn.
        rss_gb: memory of the worker process, GB, without the clips of `clip_cache`.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    error: str = ""
    fatal: bool = False
    late: float = 0.0
    seconds: float = 0.0
    rss_gb: float = 0.0


class Worker:
    """One process of a pool. Its methods never raise: what raises on a worker counts as an error of the engine.

    Args:
        stages: the whole pipeline, none set up.
        store: the run folder.
        max_attempts: how often a RetryableError is tried.
        memory_gb: above this the worker ends itself, before the machine runs out of memory; 0 sets no limit.
        threads: threads that libraries may use; there is a worker per core already.
        keep_clips: whether decoded clips stay in memory for the item's next stage.
        overlap: calls of `run` at once; above 1 their items take turns at the GPU.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        store: Store,
        max_attempts: int,
        *,
        memory_gb: float = 0.0,
        threads: int = 1,
        keep_clips: bool = False,
        overlap: int = 1,
    ) -> None:
        self._stages, self._store, self._max_attempts = stages, store, max_attempts
        self._keep_clips = keep_clips
        self._ready: set[int] = set()
        self._turns = Turns()
        self._threads = ThreadPoolExecutor(overlap, "item") if overlap > 1 else None
        _limit_threads(threads)
        if memory_gb:
            threading.Thread(target=_watch_memory, args=(memory_gb,), daemon=True).start()

    def hello(self) -> tuple[str, int]:
        """Answer once the process is up: its node and its process id."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()

    def setup(self, number: int) -> WorkerReply:
        """Set one stage up."""
        start = time.perf_counter()
        try:
            require([self._stages[number]])  # this machine may be another than the one that started the run
            self._ready.add(number)  # also a set-up that fails half-way is torn down
            self._stages[number].setup()
        except FatalError as err:
            return WorkerReply(error=str(err), fatal=True)
        except BaseException:  # noqa: BLE001 - SystemExit too
            return WorkerReply(error=traceback.format_exc())
        return WorkerReply(seconds=time.perf_counter() - start, rss_gb=rss_gb())

    def run(self, tasks: Sequence[Task]) -> WorkerReply:
        """Execute tasks, whose stages must be set up."""
        if not self._threads:
            return self._run(tasks)
        turn = self._turns.new()
        limit = self._stages[tasks[0].stage].resources.timeout
        answer = self._threads.submit(self._run_in_turn, tasks, turn)
        while not wait([answer], timeout=WATCH_SECONDS).done:
            if (seconds := turn.seconds()) > limit:
                return WorkerReply(late=seconds)
        return answer.result()

    def _run_in_turn(self, tasks: Sequence[Task], turn: Turn) -> WorkerReply:
        with turn.in_this_thread():
            reply = self._run(tasks)
        reply.seconds = turn.held
        return reply

    def _run(self, tasks: Sequence[Task]) -> WorkerReply:
        start = time.perf_counter()
        outcomes = []
        try:
            for task in tasks:
                clip_cache.start_item(task.item.item_id if self._keep_clips else "")
                outcomes.append(execute_task(self._stages[task.stage], task, self._store, self._max_attempts))
        except FatalError as err:
            return WorkerReply(outcomes, error=str(err), fatal=True)
        except BaseException:  # noqa: BLE001
            return WorkerReply(outcomes, error=traceback.format_exc(), fatal=True)
        return WorkerReply(outcomes, seconds=time.perf_counter() - start, rss_gb=rss_gb() - clip_cache.cached_gb())

    def close(self) -> WorkerReply:
        """Tear every stage down and remove downloaded files."""
        errors = []
        for number in sorted(self._ready):
            try:
                self._stages[number].teardown()
            except BaseException:  # noqa: BLE001
                errors.append(traceback.format_exc())
        self._ready.clear()
        clip_cache.start_item("")
        process_scratch().close()
        return WorkerReply(error="\n".join(errors))


def rss_gb() -> float:
    """Resident memory of this process, GB."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:  # noqa: PTH123
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _watch_memory(limit_gb: float) -> None:
    while True:
        time.sleep(WATCH_SECONDS)
        held = rss_gb()
        if held > limit_gb:
            print(f"ffpdata: worker {worker_label()} holds {held:.1f} GB, its limit is {limit_gb:.1f} GB", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)


def _limit_threads(threads: int) -> None:
    import cv2

    cv2.setNumThreads(threads)
