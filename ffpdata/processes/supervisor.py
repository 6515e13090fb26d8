"""Runs one command and ends it with all its children when the owner of the standard input has ended.

`python supervisor.py GRACE COMMAND ...`: a server that outlives its owner would hold a GPU that nobody can use. The
owner has the other end of the pipe, so that even its kill -9 ends the command; SIGTERM to this process does, too. It
uses the standard library alone and is run as a file.

The owner's child only waits for the exit status, and the supervisor itself is a daemon: Ray kills the children of a
worker that it ends, and the command of a killed supervisor would go on running.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

POLL_SECONDS = 0.2
LEFT_SECONDS = 2.0
"""Seconds that processes which the command left behind have to end by themselves."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Linux: have a signal sent when the parent dies; become the parent of orphaned descendants."""

stop_requested = False


def main(command: list[str], grace: float) -> int:
    """Run `command` under a supervisor that is no child of this process, and wait for it.

    Args:
        command: program and arguments.
        grace: seconds between SIGTERM and SIGKILL.

    Returns:
        The command's exit status; 128 + n where signal n ended it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner
    status_in, status_out = os.pipe()
    here_in, here_out = os.pipe()  # it closes when this process ends
    middle = os.fork()
    if middle:
        os.close(status_out)
        os.close(here_in)
        os.waitpid(middle, 0)
        return int(os.read(status_in, 16) or b"1")
    os.setsid()
    if not os.fork():
        os.close(status_in)
        os.close(here_out)
        os.write(status_out, str(supervise(command, grace, [0, here_in])).encode())
    os._exit(0)


def supervise(command: list[str], grace: float, owners: list[int]) -> int:
    """Run `command` until it ends or one of the pipes `owners` is closed; return its exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _request_stop)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - there are no threads here
    )
    while child.poll() is None and not stop_requested and not _orphaned(owners):
        pass
    _end(child, grace)
    code = child.returncode
    return 128 - code if code < 0 else code


def _request_stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    global stop_requested  # noqa: PLW0603 - a signal handler cannot return a value
    stop_requested = True


def _orphaned(owners: list[int]) -> bool:
    """Wait a moment; return whether an owner has closed its pipe."""
    readable, _, _ = select.select(owners, [], [], POLL_SECONDS)
    return any(not os.read(pipe, 1024) for pipe in readable)


def _end(child: subprocess.Popen[bytes], grace: float) -> None:
    """End the command's process group, then all other processes that it left behind."""
    _signal_group(child.pid, signal.SIGTERM)
    for pid in _descendants(os.getpid()):
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS / 4)
    # A server waits for its own children: processes that are left now do not end by themselves.
    deadline = min(deadline, time.monotonic() + LEFT_SECONDS)
    while _descendants(os.getpid()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS / 4)
    _signal_group(child.pid, signal.SIGKILL)
    for pid in _descendants(os.getpid()):
        _signal(pid, signal.SIGKILL)
    child.wait()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _descendants(pid: int) -> list[int]:
    """List the descendants of `pid` that are not zombies; empty where there is no /proc."""
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, tasks.read_text().split()):
                state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
                found += [child] * (state != "Z") + _descendants(child)
    return found


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _die_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:], float(sys.argv[1])))
