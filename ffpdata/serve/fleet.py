"""Several servers, started, watched and stopped together. A server that ends is reported and not restarted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from ffpdata.core.errors import FatalError
from ffpdata.core.wording import counted
from ffpdata.processes.ray_cluster import ray_cluster
from ffpdata.serve.server import GRACE_SECONDS, Server
from ffpdata.serve.vllm_flags import ServerPlan

WATCH_SECONDS = 1.0
CPUS = 1
"""CPU cores that a server's actor reserves on a cluster."""

Say = Callable[[str], None]


class ServerHandle(Protocol):
    """A server on this machine or another."""

    name: str
    log: str

    def where(self) -> str:
        """Return its base URL."""

    def exit_code(self) -> int | None:
        """Return its exit code; None while it runs."""

    def healthy(self) -> bool:
        """Return whether it answers requests."""

    def tail(self) -> str:
        """Return the last lines of its log."""

    def stop(self) -> None:
        """Stop it."""


def serve(
    plan: ServerPlan, *, ray: bool, wait: float, logs: Path, say: Say, ready: Callable[[list[str]], None]
) -> None:
    """Start the servers, report when they are ready, and watch them until Ctrl-C or SIGTERM.

    Args:
        plan: what to serve.
        ray: start them as actors on the cluster of RAY_ADDRESS; otherwise as processes of this machine.
        wait: seconds in which all must be ready.
        logs: folder for their logs, on the machine where each runs.
        say: called with each line for the terminal.
        ready: called with the endpoints once all are ready.

    Raises:
        FatalError: too few GPUs, a port in use, a server that ends before it is ready or is not ready in time, or all
            servers have ended.
    """
    # Ray installs signal handlers, too: ours must be installed after them.
    with (_on_ray if ray else _here)(plan, logs.resolve()) as servers, _stop_signal() as stop:
        if not _wait_until_ready(servers, wait, stop, say):
            return
        ready([server.where() for server in servers])
        _watch(servers, stop, say)
        say(f"Stopping {counted(len(servers), 'server')} ...")


def _wait_until_ready(servers: list[ServerHandle], wait: float, stop: threading.Event, say: Say) -> bool:
    """Wait until all servers answer; returns False where a stop was requested first."""
    start, waiting = time.monotonic(), list(servers)
    while waiting:
        for server in list(waiting):
            code = server.exit_code()
            if code is not None:
                raise FatalError(f"{server.name} ended with {code} before it was ready:\n{server.tail()}")
            if server.healthy():
                waiting.remove(server)
                say(f"{server.where()}  ready after {time.monotonic() - start:.0f} s, log {server.log}")
        if waiting and time.monotonic() - start > wait:
            late = waiting[0]
            raise FatalError(f"{late.name} is not ready after {wait:.0f} s (--wait), log {late.log}:\n{late.tail()}")
        if waiting and stop.wait(WATCH_SECONDS):
            return False
    return True


def _watch(servers: list[ServerHandle], stop: threading.Event, say: Say) -> None:
    alive = list(servers)
    while not stop.wait(WATCH_SECONDS):
        for server in list(alive):
            code = server.exit_code()
            if code is not None:
                alive.remove(server)
                say(f"{server.name} at {server.where()} ended with {code}, {len(alive)} left. It is not restarted.")
                say(server.tail())
        if not alive:
            raise FatalError("every server ended: see their logs")


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C, SIGTERM and a closed terminal set."""
    stop = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.set()

    before = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def _here(plan: ServerPlan, logs: Path) -> Iterator[list[ServerHandle]]:
    servers: list[ServerHandle] = []
    gpus = _visible_gpus() if plan.gpus else []
    if plan.servers * plan.gpus > len(gpus):
        raise FatalError(
            f"{plan.servers} servers with {plan.gpus} GPUs each need {plan.servers * plan.gpus}, this machine shows "
            f"{len(gpus)}: fewer --servers or --gpus, or --ray for a cluster"
        )
    try:
        for number in range(plan.servers):
            own = gpus[number * plan.gpus : (number + 1) * plan.gpus] if plan.gpus else None
            servers.append(Server(plan, number, plan.host, str(logs / f"server-{number}.log"), own))
        yield servers
    finally:
        _stop_all(servers)


def _stop_all(servers: list[ServerHandle]) -> None:
    """Stop all at the same time, so that their grace periods run in parallel."""
    threads = [threading.Thread(target=server.stop) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _visible_gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=index", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.split() if done.returncode == 0 else []


class _RemoteServer:
    """A server in a Ray actor; a dead actor counts as a server that ended."""

    def __init__(self, actor: Any, name: str, log: str) -> None:
        self._actor, self.name, self.log, self._url, self._died = actor, name, log, name, ""

    def _call(self, method: str, otherwise: Any, seconds: float = 10.0) -> Any:
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError

        try:
            return ray.get(getattr(self._actor, method).remote(), timeout=seconds)
        except RayActorError as err:
            self._died = self._died or str(err)
            return otherwise
        except GetTimeoutError:  # the actor waits for resources, or its machine is slow
            return None

    def where(self) -> str:
        self._url = self._call("where", None) or self._url
        return self._url

    def exit_code(self) -> int | None:
        code: int | None = self._call("exit_code", -1)
        return code

    def healthy(self) -> bool:
        return bool(self._call("healthy", False))

    def tail(self) -> str:
        return str(self._call("tail", self._died) or "(no log)")

    def stop(self) -> None:
        import ray

        self._call("stop", None, GRACE_SECONDS + 15)
        ray.kill(self._actor)


class _Actor(Server):
    """A server on the node and the GPUs that Ray chose."""

    def __init__(self, plan: ServerPlan, number: int, log: str) -> None:
        import ray

        address: Any = ray.util.get_node_ip_address  # untyped in Ray
        super().__init__(plan, number, address(), log)


@contextmanager
def _on_ray(plan: ServerPlan, logs: Path) -> Iterator[list[ServerHandle]]:
    import ray

    with ray_cluster(log_to_driver=False):
        servers: list[ServerHandle] = []
        try:
            resources: Any = ray.cluster_resources  # untyped in Ray
            needed, available = plan.servers * plan.gpus, resources().get("GPU", 0)
            if needed > available:
                raise FatalError(
                    f"{plan.servers} servers with {plan.gpus} GPUs each: the cluster has {available:g} GPUs"
                )
            # An actor that is not detached ends with this process, and its supervisor ends the server.
            actor = ray.remote(num_cpus=CPUS, num_gpus=plan.gpus, max_restarts=0)(_Actor)
            for number in range(plan.servers):
                log = str(logs / f"server-{number}.log")
                servers.append(_RemoteServer(actor.remote(plan, number, log), f"server {number}", log))
            yield servers
        finally:
            _stop_all(servers)
