"""Run the ffmpeg binary as a child process: in its own process group, with a wall-clock limit and typed errors."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import IO

from ffpdata.core.errors import FatalError, FfpdataError, RetryableError

Buffer = bytes | memoryview

MEMORY_LIMIT = 6 << 30
"""Bytes of address space of one ffmpeg: a crafted file must not take the machine's memory."""

_LOG_MAX = 4 << 20
_PREFIX = re.compile(r"^(\[[^\]]* @ 0x[0-9a-f]+\] )*\[(error|fatal|panic)\] ")
_LEVELS = ("[error]", "[fatal]", "[panic]")
_ECHOES = ("Conversion failed!", "Task finished with error", "Terminating thread", "not on whitelist")


class FfmpegError(FfpdataError):
    """ffmpeg ended with an error; the text is the first error that it logged."""


class TooSlowError(FfpdataError):
    """The wall-clock limit ended ffmpeg."""


@cache
def ffmpeg_exe() -> str:
    """Return the path of the bundled ffmpeg binary."""
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as err:
        raise FatalError(f"no ffmpeg binary: reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE ({err})") from err


@cache
def has_filter(name: str) -> bool:
    """Return whether the binary has a filter: builds other than the bundled one may lack some."""
    result = subprocess.run(
        [ffmpeg_exe(), "-v", "quiet", "-h", f"filter={name}"], capture_output=True, text=True, timeout=30, check=False
    )
    return result.stdout.startswith("Filter ")


@cache
def parent_death_prefix() -> tuple[str, ...]:
    """Return the words before a command that have the kernel kill it when this process dies, even by SIGKILL.

    Empty where the machine has no `setpriv`. A killed worker then leaves no ffmpeg behind that still writes files.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ()
    result = subprocess.run([setpriv, "--pdeathsig", "KILL", "true"], capture_output=True, timeout=30, check=False)
    return (setpriv, "--pdeathsig", "KILL") if result.returncode == 0 else ()


def file_url(path: Path) -> str:
    """Return a `file:` URL, so that ffmpeg never takes the path for an option, another protocol or a pattern."""
    return f"file:{Path(path).absolute()}"


def run(
    args: Iterable[str],
    *,
    timeout_s: float,
    feed: Iterable[Buffer] | None = None,
    memory_limit: int | None = MEMORY_LIMIT,
) -> bytes:
    """Run ffmpeg to its end and return its log, at most the last 4 MB.

    Args:
        args: everything after the program's name and the common flags.
        timeout_s: wall-clock limit.
        feed: buffers for its standard input.
        memory_limit: bytes of its address space; None, no limit, for what reads no foreign file.

    Raises:
        TooSlowError: the limit was reached; the whole process group was killed.
        FfmpegError: it ended with an error.
        FatalError: the disk is full.
    """
    with tempfile.TemporaryFile() as log:
        with start(args, timeout_s=timeout_s, stdin=feed is not None, log=log, memory_limit=memory_limit) as process:
            _feed(process, feed)
            process.wait()
        return read_log(log)


def _feed(process: subprocess.Popen[bytes], feed: Iterable[Buffer] | None) -> None:
    if feed is not None and process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it has died; its return code says why
            for buffer in feed:
                _write_all(process.stdin, buffer)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


@contextlib.contextmanager
def start(
    args: Iterable[str],
    *,
    timeout_s: float,
    stdin: bool = False,
    stdout: bool = False,
    log: IO[bytes] | None = None,
    memory_limit: int | None = MEMORY_LIMIT,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start ffmpeg and, when the block ends, wait for it and raise as `run` does.

    The block writes to `process.stdin` or reads `process.stdout` (both unbuffered) where `stdin` or `stdout` is set. A
    block that raises kills ffmpeg. `log` is the file that receives ffmpeg's standard error.
    """
    command = [
        *parent_death_prefix(),
        ffmpeg_exe(),
        "-hide_banner",
        "-v",
        "level+error",
        "-y",
        *([] if stdin else ["-nostdin"]),
        *args,
    ]
    with contextlib.ExitStack() as stack:
        log = log or stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
            stderr=log,
            bufsize=0,
            process_group=0,
        )
        if memory_limit is not None:
            _limit_memory(process.pid, memory_limit)
        expired = threading.Event()
        timer = threading.Timer(timeout_s, _expire, (process, expired))
        timer.daemon = True
        timer.start()
        try:
            yield process
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
            process.wait()
        except BaseException:
            _kill(process)
            raise
        finally:
            timer.cancel()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        if expired.is_set():
            raise TooSlowError(f"ffmpeg was stopped after {timeout_s:g} s")
        if process.returncode:
            raise _failure(process.returncode, read_log(log).decode(errors="replace"))


def _write_all(stream: IO[bytes], buffer: Buffer) -> None:
    """Write a buffer to an unbuffered pipe, which may take less than all of it at once."""
    rest = memoryview(buffer).cast("B")
    while rest:
        rest = rest[stream.write(rest) :]


def _failure(code: int, log: str) -> FfpdataError:
    words = _first_complaint(log)
    if os.strerror(errno.ENOSPC) in log:
        return FatalError(f"disk full: {words}. Free some space and start again, finished work is kept")
    if os.strerror(errno.EROFS) in log:
        return FatalError(f"read-only file system: {words}. Choose another folder")
    if code == -signal.SIGKILL:
        return RetryableError("ffmpeg was killed from outside, mostly for want of memory")
    how = f"signal {-code}" if code < 0 else f"code {code}"
    return FfmpegError(f"{words} (ffmpeg ended with {how})" if words else f"ffmpeg ended with {how}")


def _first_complaint(log: str) -> str:
    """Return the first error in the log: those after it mostly repeat it."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    marked = [line for line in lines if any(level in line for level in _LEVELS)]
    causes = [line for line in marked if not any(echo in line for echo in _ECHOES)]
    words = (causes or marked or lines[-1:] or [""])[0]
    return _PREFIX.sub("", words)[-400:]


def read_log(log: IO[bytes]) -> bytes:
    """Return the content of a log file, at most the last 4 MB."""
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _LOG_MAX))
    return log.read()


def _expire(process: subprocess.Popen[bytes], expired: threading.Event) -> None:
    if process.poll() is None:
        expired.set()
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _limit_memory(pid: int, limit: int) -> None:
    if sys.platform == "linux":
        import resource

        with contextlib.suppress(OSError, ProcessLookupError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
