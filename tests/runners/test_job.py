"""`ray job submit` on a head of its own: exit codes, progress lines, a token that is in the way, `ray job stop`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.ray

REPOSITORY = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")
START_SECONDS = 90.0
JOB_SECONDS = 120.0


@dataclass
class Head:
    """A head node and a folder that jobs are submitted from."""

    folder: Path
    address: str
    environment: dict[str, str]
    log: str = ""

    def ray(self, *arguments: str, token: bool = True) -> subprocess.CompletedProcess[str]:
        environment = self.environment | ({"RAY_AUTH_MODE": "token"} if token else {})
        command = [str(RAY), "job", arguments[0], "--address", self.address, *arguments[1:]]
        return subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=JOB_SECONDS, check=False
        )

    def submit(self, pipeline: str, run: str, *more: str, wait: bool = True, name: str = "") -> int:
        """Submit a run: the exit code of `ray job submit`; `log` is what it printed."""
        variables = {"PYTHONPATH": str(REPOSITORY)}
        options = ["--working-dir", ".", "--runtime-env-json", json.dumps({"env_vars": variables})]
        options += [] if wait else ["--no-wait"]
        options += ["--submission-id", name] if name else []
        command = [sys.executable, "-m", "ffpdata.cli", "run", pipeline, "--input", str(self.folder / "in")]
        command += ["--run", str(self.folder / run), "--runner", "ray", *more]
        found = self.ray("submit", *options, "--", *command)
        self.log = found.stdout + found.stderr
        return found.returncode


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head whose user has the token that a `ray.init()` left: it asks for it, and nobody said so."""
    folder = Path(tempfile.mkdtemp(prefix="ffp-", dir="/tmp"))  # short: sockets lie below it
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text("0123456789abcdef" * 4)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHONDONTWRITEBYTECODE"))}
    environment |= {"HOME": str(folder), "RAY_USAGE_STATS_ENABLED": "0", "RAY_JOB_STOP_WAIT_TIME_S": "60"}
    work(folder / "work")
    port, dashboard, *others = free_ports(8)
    names = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export")
    names += ("node-manager", "ray-client-server")
    command = [
        str(RAY),
        "start",
        "--head",
        "--block",
        f"--port={port}",
        f"--dashboard-port={dashboard}",
        "--num-cpus=2",
    ]
    command += [f"--temp-dir={folder / 'ray'}", "--object-store-memory=100000000"]
    command += [f"--{name}-port={number}" for name, number in zip(names, others, strict=True)]
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_jobs(process, f"http://127.0.0.1:{dashboard}/api/jobs/", folder / "head.log")
        yield Head(folder / "work", f"http://127.0.0.1:{dashboard}", environment)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            end(process, number)
        shutil.rmtree(folder, ignore_errors=True)


def work(folder: Path) -> None:
    """Write what is submitted: pipelines, their stages, their input."""
    (folder / "in").mkdir(parents=True)
    for name in ("raise", *(f"good-{i}" for i in range(20))):
        (folder / "in" / f"{name}.txt").write_text(name)
    shutil.copy(REPOSITORY / "tests" / "toys.py", folder / "my_toys.py")
    slow = {"my_toys:Poison": {"trace": str(folder / "trace"), "seconds": 1.5}}
    for name, stages in {"quick": ["my_toys:Upper", "my_toys:Waits", "my_toys:Fan"], "slow": [slow]}.items():
        pipeline = {"name": name, "track": "t", "stages": ["my_toys:Read", *stages]}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(pipeline))


def free_ports(count: int) -> list[int]:
    """Ports that are free now, outside 10002-19999, which Ray's workers use."""
    taken = [socket.socket() for _ in range(count + 20)]
    try:
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [n for n in (one.getsockname()[1] for one in taken) if not 10002 <= n <= 19999][:count]
    finally:
        for one in taken:
            one.close()


def wait_for_jobs(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait for the job server, which asks for the token; skip where it does not come."""
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own http URL
        except urllib.error.HTTPError as err:
            if err.code == 401 and "will now block forever" in log.read_text():
                return
        except OSError:
            pass
        time.sleep(0.5)
    pytest.skip(f"no job server of ray[default] within {START_SECONDS:.0f} s: {log.read_text()[-300:]}")


def end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal all processes of the head, and wait a little for them."""
    until = time.monotonic() + 5
    try:
        os.killpg(process.pid, number)
        while time.monotonic() < until:
            process.poll()  # a child that ended stays in its group until somebody asks
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    except ProcessLookupError:
        pass


def test_without_the_token_a_job_is_refused(head: Head) -> None:
    found = head.ray("submit", "--", "true", token=False)
    assert found.returncode != 0
    assert "Missing authentication token" in found.stdout + found.stderr


def test_a_job_says_how_far_it_is_and_how_it_ended(head: Head) -> None:
    code = head.submit("quick.yaml", "run", "--strict")
    assert code == 1, head.log
    assert "failed with exit code 3" in head.log
    assert "1 item failed (--strict)" in head.log
    lines = head.log.splitlines()
    assert any(line.split()[:2] == ["read", "21/21"] for line in lines), head.log
    assert "\x1b[2K" not in head.log, "nothing that only a terminal understands"
    command = [sys.executable, "-m", "ffpdata.cli", "status", str(head.folder / "run"), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    told = json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert told["stages"]["fan"]["ok"] == 40
    assert told["stages"]["upper"]["reasons"] == {"ZeroDivisionError": 1}


def test_stop_lets_finish_what_is_running(head: Head) -> None:
    trace = head.folder / "trace"
    assert head.submit("slow.yaml", "slow", wait=False, name="to-stop") == 0, head.log
    until = time.monotonic() + 60
    while not trace.exists():
        assert time.monotonic() < until, head.ray("logs", "to-stop").stdout
        time.sleep(0.2)
    assert head.ray("stop", "to-stop").returncode == 0
    done = trace.read_text().split()
    assert 0 < len(done) < 20
    assert len([path for path in head.folder.glob("try-*") if "raise" not in path.name]) == len(done)
    assert "the same command goes on from there" in head.ray("logs", "to-stop").stdout
