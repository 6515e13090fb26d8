"""A module run in processes of its own: progress as it comes, errors as ours, and an end with this process's end."""

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
from ffpdata.training.atomic_files import write_whole

MARK = "ffpdata| "
"""Begins a line that is told on; all lines go to the log."""

FAILED = "error.json"
"""Beside the configuration: what a process raised of ours."""

GRACE_SECONDS = 10.0
"""Between SIGTERM and SIGKILL."""

TAIL_LINES = 20


def launch(module: str, config: Path, processes: int, log: Path, say: Callable[[str], None]) -> None:
    """Run `python -m module config` and wait for it.

    Args:
        module: its `main` reports errors through `report`.
        config: its one argument.
        processes: above 1 they find each other by torchrun's environment variables.
        log: where its output goes, behind that of earlier starts.
        say: told each line that begins with `MARK`.

    Raises:
        FfpdataError: what a process reported: of `core.errors`' classes, the nearest.
        FatalError: it ended otherwise; with the end of its log.
    """
    config.with_name(FAILED).unlink(missing_ok=True)
    command = [sys.executable, "-m", module, str(config)]
    if processes > 1:
        spread = [f"--nproc-per-node={processes}", "--master-addr=127.0.0.1", f"--master-port={free_port()}"]
        command = [sys.executable, "-m", "torch.distributed.run", *spread, "-m", module, str(config)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(
            path or str(Path.cwd()) for path in sys.path
        ),  # back ends found here are found there
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a", encoding="utf-8") as out,
        subprocess.Popen(
            [sys.executable, supervisor.__file__, str(GRACE_SECONDS), *command],
            stdin=subprocess.PIPE,  # its end tells the keeper that this process is gone
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
                if line.startswith(MARK):
                    say(line.removeprefix(MARK).rstrip())
            code = process.wait()
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
    if code:
        raise _reported(config) or FatalError(
            f"{module} ended with exit code {code}; the end of {log}:\n" + "\n".join(f"    {line}" for line in tail)
        )


def report(config: Path, err: errors.FfpdataError) -> None:
    """Keep an error for the process that waits in `launch`."""
    kind = next(kind.__name__ for kind in type(err).__mro__ if kind.__module__ == errors.__name__)
    write_whole(config.with_name(FAILED), json.dumps([kind, str(err)]).encode())


def tell(line: str) -> None:
    """Say a line to the process that waits in `launch`."""
    print(f"{MARK}{line}", flush=True)


def _reported(config: Path) -> errors.FfpdataError | None:
    try:
        kind, message = json.loads(config.with_name(FAILED).read_text())
    except FileNotFoundError:
        return None
    found: errors.FfpdataError = getattr(errors, kind)(message)
    return found
