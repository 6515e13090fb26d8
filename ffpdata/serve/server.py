"""One vLLM server: a supervised process group, its health and the end of its log. Used here or in a Ray actor."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from ffpdata.core.errors import FatalError
from ffpdata.processes import supervisor
from ffpdata.serve.vllm_flags import ServerPlan

GRACE_SECONDS = 20.0
"""Seconds between SIGTERM and SIGKILL: vLLM stops its engine in this time."""
HEALTH_SECONDS = 5.0
TAIL_LINES = 15
TAIL_BYTES = 64_000


class Server:
    """A vLLM server. Its methods return at once, except `stop`, which takes at most `GRACE_SECONDS` + 10 seconds.

    Args:
        plan: what to serve.
        number: of the server, from 0; it is added to the plan's port.
        host: address to listen at and of its URL.
        log: file that its output is appended to.
        gpus: ids of its GPUs; None keeps the environment's setting.

    Raises:
        FatalError: its port is in use.
        UsageError: vLLM is not installed.
    """

    def __init__(self, plan: ServerPlan, number: int, host: str, log: str, gpus: list[str] | None = None) -> None:
        self.name, self.log, self._port = f"server {number}", log, plan.port + number
        self.url = f"http://{host}:{self._port}/v1"
        self._root = f"http://{host}:{self._port}"
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, self._port))
            except OSError as err:
                raise FatalError(f"{host}:{self._port}: {err.strerror}. Choose another with --port.") from None
        environment = os.environ | plan.environment()
        if gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        supervised = [sys.executable, supervisor.__file__, str(GRACE_SECONDS)]
        command = plan.command(host, self._port)
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with Path(log).open("ab") as out:
            self._process = subprocess.Popen(
                [*supervised, *command],
                stdin=subprocess.PIPE,  # the supervisor ends the server when this pipe closes
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def where(self) -> str:
        """Return its base URL."""
        return self.url

    def exit_code(self) -> int | None:
        """Return its exit code; None while it runs."""
        return self._process.poll()

    def healthy(self) -> bool:
        """Return whether it answers requests."""
        try:
            direct = urllib.request.build_opener(
                urllib.request.ProxyHandler({})
            )  # the server is on this machine: no proxy
            with direct.open(f"{self._root}/health", timeout=HEALTH_SECONDS) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError, ValueError):
            return False

    def tail(self) -> str:
        """Return the last lines of its log."""
        try:
            with Path(self.log).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError as err:
            return f"(no log: {err})"
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])

    def stop(self) -> None:
        """Stop it with all processes that it started."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(GRACE_SECONDS + 10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
