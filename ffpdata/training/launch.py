"""Runs a module in child processes: passes on its progress and its errors, and ends it when this process ends."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ffpdata.core import errors
from ffpdata.core.errors import FatalError
from ffpdata.processes import supervisor
from ffpdata.processes.ports import free_port
from ffpdata.training.atomic_files import write_atomically

PROGRESS_PREFIX = "ffpdata| "
"""Marks a line of output as progress; all lines go to the log."""

ERROR_FILE = "error.json"
"""File beside the configuration with the FfpdataError that a process raised."""

GRACE_SECONDS = 10.0
"""Seconds between SIGTERM and SIGKILL."""

TAIL_LINES = 20


def launch(module: str, config: Path, processes: int, log: Path, say: Callable[[str], None]) -> None:
    """Run `python -m module config` and wait for it.

    Args:
        module: it reports errors with `report_error` and progress with `report_progress`.
        config: its only argument.
        processes: number of processes; several are started by torchrun, which sets their environment variables.
        log: file that its output is appended to.
        say: called with each line of progress.

    Raises:
        FfpdataError: the error that a process reported, as the nearest class of `core.errors`.
        FatalError: it ended with another error; the message has the end of its log.
    """
    config.with_name(ERROR_FILE).unlink(missing_ok=True)
    command = [sys.executable, "-m", module, str(config)]
    if processes > 1:
        torchrun = [f"--nproc-per-node={processes}", "--master-addr=127.0.0.1", f"--master-port={free_port()}"]
        command = [sys.executable, "-m", "torch.distributed.run", *torchrun, "-m", module, str(config)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(
            path or str(Path.cwd()) for path in sys.path
        ),  # so that the child finds the same back ends
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a", encoding="utf-8") as out,
        subprocess.Popen(
            [sys.executable, supervisor.__file__, str(GRACE_SECONDS), *command],
            stdin=subprocess.PIPE,  # the supervisor ends the command when this pipe closes
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                out.write(line)
                out.flush()
                tail.append(line.rstrip())
                _, found, progress = line.partition(PROGRESS_PREFIX)  # Ray puts the worker's name before it
                if found:
                    say(progress.rstrip())
            code = process.wait()
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
    if code:
        raise _reported_error(config) or FatalError(
            f"{module} ended with exit code {code}; the end of {log}:\n" + "\n".join(f"    {line}" for line in tail)
        )


def report_error(config: Path, err: errors.FfpdataError) -> None:
    """Write an error for the process that waits in `launch`."""
    kind = next(kind.__name__ for kind in type(err).__mro__ if kind.__module__ == errors.__name__)
    write_atomically(config.with_name(ERROR_FILE), json.dumps([kind, str(err)]).encode())


def report_progress(line: str) -> None:
    """Print a line of progress for the process that waits in `launch`."""
    print(f"{PROGRESS_PREFIX}{line}", flush=True)


def _reported_error(config: Path) -> errors.FfpdataError | None:
    try:
        kind, message = json.loads(config.with_name(ERROR_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    error: errors.FfpdataError = getattr(errors, kind)(message)
    return error
