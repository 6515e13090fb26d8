"""A helper: a child process that answers requests one after another, each within limits of time and memory.

It is for work on foreign data that may hang, crash or fill the memory. Starting Python for every request would cost
0.1 s, so a helper stays, and is started anew only after it was ended by a limit or a crash, or has answered many
requests. Each thread has a helper of its own. A helper dies with the thread that asks it, by whatever signal.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from ffpdata.core.errors import FatalError, FfpdataError, Reject, RetryableError
from ffpdata.processes.helper_loop import HEADER

if TYPE_CHECKING:
    import io

ROOT = Path(__file__).parents[2]
"""Folder that holds the package: a helper runs the code of this process, not that of another installation."""

BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from ffpdata.processes.helper_loop import main; main(*sys.argv[2:])"
)

PIPE_BYTES = 1 << 20
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""There is a helper per worker, and a worker per core; and each thread would take address space, which is limited."""


@dataclass(frozen=True)
class Limits:
    """What one request may take.

    Attributes:
        cpu_s: CPU seconds of all threads, a whole number. The kernel ends the helper, even if nobody waits for it.
        wall_s: seconds until the answer is there; on a busy machine more than `cpu_s`.
        memory: bytes of address space (Linux).
        requests: after so many a new helper is started, so that what a library leaks does not add up.
        idle_s: seconds without a request after which a helper ends itself.
    """

    cpu_s: int = 10
    wall_s: float = 60.0
    memory: int = 2 << 30
    requests: int = 500
    idle_s: float = 60.0


class CpuLimitError(FfpdataError):
    """The request took more than its CPU seconds."""


class MemoryLimitError(FfpdataError):
    """The request needed more than its memory."""


class CrashError(FfpdataError):
    """The helper was ended by a signal of its own making, e.g. a segmentation fault in a library."""


class _Gone(Exception):
    """The helper had ended before the request reached it."""


class Helper:
    """Helpers for one kind of request, one per thread that asks.

    Args:
        entry: `module:function` of ffpdata; the function takes the request, a dict, and returns a dict and bytes. It
            may raise Reject. Its module is imported in the helper alone.
        limits: of each request.
    """

    def __init__(self, entry: str, limits: Limits) -> None:
        self.entry, self.limits = entry, limits
        self._held = threading.local()

    def ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytearray]:
        """Return the answer to a request and the bytes that came with it.

        Whatever interrupts the wait, Ctrl-C too, ends the helper at once.

        Raises:
            Reject: the function raised it.
            CpuLimitError, MemoryLimitError, CrashError: as they say.
            RetryableError: no answer in `wall_s`, or the helper was killed from outside.
            FatalError: a library is missing.
            FfpdataError: the function raised another error.
        """
        for _ in range(2):
            with contextlib.suppress(_Gone):
                return self._ask(request)
        raise RetryableError(f"the helper for {self.entry} ends before it is asked")

    def _ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytearray]:
        process = self._process()
        try:
            answer, data = process.exchange(request)
        except BaseException:
            process.end()
            raise
        problem = answer.pop("problem", None)
        if problem:
            _raise(problem, self)
        return answer, data

    def _process(self) -> _Process:
        process: _Process | None = getattr(self._held, "process", None)
        if process and (process.asked >= self.limits.requests or not process.alive()):
            process.end()
            process = None
        if not process:
            process = self._held.process = _Process(self)
        return process

    def close(self) -> None:
        """End this thread's helper; the next request starts another."""
        if process := getattr(self._held, "process", None):
            process.end()


class _Process:
    """One running helper."""

    def __init__(self, helper: Helper) -> None:
        self.helper, self.asked, self.cpu_seconds = helper, 0, 0.0
        limits = helper.limits
        paths = [str(ROOT), *(p for p in sys.path if p and p != str(ROOT))]
        command = [sys.executable, "-I", "-S", "-c", BOOTSTRAP, json.dumps(paths), helper.entry]
        command += [str(os.getpid()), str(limits.cpu_s), str(limits.memory), str(limits.idle_s)]
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a decoder may print without end
                bufsize=0,
                process_group=0,  # Ctrl-C in a terminal is for the owner
                env=os.environ | ONE_THREAD,
            )
        except OSError as err:
            raise RetryableError(f"cannot start a helper process: {err}") from err
        self._requests, self._answers = cast("io.FileIO", self._child.stdin), cast("io.FileIO", self._child.stdout)
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux: fewer turns between the two for a picture of 3 MB
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._answers, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        self._owner = os.getpid()
        self.end = weakref.finalize(self, _end, self._child, self._owner)
        _living.add(self)

    def alive(self) -> bool:
        """Whether it is there, and of this process: a fork shares no helper with its parent."""
        return self._owner == os.getpid() and self.end.alive and self._child.poll() is None

    def exchange(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytearray]:
        """Send a request and wait for its answer."""
        self.asked += 1
        deadline = time.monotonic() + self.helper.limits.wall_s
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise _Gone from None
        size, extra = HEADER.unpack(self._read(HEADER.size, deadline))
        answer: dict[str, Any] = json.loads(self._read(size, deadline))
        data = self._read(extra, deadline)
        self.cpu_seconds = answer.pop("cpu_seconds")
        return answer, data

    def _read(self, size: int, deadline: float) -> bytearray:
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            if not self._poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                limit = self.helper.limits.wall_s
                raise RetryableError(f"no answer after {limit:g} s: the machine is busy, or the file does not read")
            count = self._answers.readinto(rest)
            if not count:
                self._explain()
            rest = rest[count:]
        return data

    def _explain(self) -> NoReturn:
        """Raise for a helper that ended without an answer."""
        code = self._child.wait()
        if code == 0:
            raise _Gone  # it was idle for too long
        if code == -signal.SIGXCPU:
            raise CpuLimitError(f"it took more than {self.helper.limits.cpu_s} CPU seconds")
        if code == -signal.SIGKILL:
            raise RetryableError("the helper was killed from outside, mostly for want of memory")
        if code < 0:
            raise CrashError(f"it ended the helper by signal {-code} ({signal.strsignal(-code)})")
        raise FfpdataError(f"the helper for {self.helper.entry} ended with exit code {code}")


def _raise(problem: Mapping[str, Any], helper: Helper) -> NoReturn:
    kind, text = problem["kind"], problem["text"]
    if kind == "reject":
        raise Reject(problem["reason"], text)
    if kind == "memory":
        raise MemoryLimitError(f"it needs more than {helper.limits.memory / (1 << 30):g} GB of memory")
    if kind == "import":
        raise FatalError(f"{helper.entry} does not work here: {text}; reinstall ffpdata")
    raise FfpdataError(f"{helper.entry} failed: {text}")


_living: weakref.WeakSet[_Process] = weakref.WeakSet()


def cpu_seconds() -> float:
    """Return the CPU seconds of all helpers of this process that the system does not count as ended children yet."""
    return sum(process.cpu_seconds for process in list(_living) if process.end.alive)


def _end(child: subprocess.Popen[bytes], owner: int) -> None:
    """Kill a helper with whatever it started, and wait for it."""
    if owner == os.getpid():
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
