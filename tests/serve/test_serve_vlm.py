"""`ffpdata serve-vlm`: the right flags, honest waiting, and not one process left behind however it ends."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ffpdata.core.errors import UsageError
from ffpdata.serve import fleet
from ffpdata.serve.vllm_flags import ServerPlan, plan_for

pytestmark = pytest.mark.slow

FAKE = f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).with_name('fake_vllm.py')))}"


def free_ports(count: int) -> int:
    """The first of `count` free ports in a row."""
    for port in range(20100 + os.getpid() % 5000, 30000, count):
        try:
            for offset in range(count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        return port
    raise OSError("no free ports")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Command:
    """A running `ffpdata serve-vlm` on fake servers."""

    def __init__(self, folder: Path, *options: str, how: str = "", servers: int = 1, **environment: str) -> None:
        self.notes, self.port, self.servers = folder / "notes", free_ports(servers), servers
        self.notes.mkdir(parents=True)
        program = f"env FAKE_VLLM={how} FAKE_VLLM_NOTES={shlex.quote(str(self.notes))} {FAKE}"
        command = [sys.executable, "-m", "ffpdata.cli", "serve-vlm", "--model", "org/vl", "--vllm", program]
        command += ["--gpus", "0", "--port", str(self.port), "--servers", str(servers), "--logs", str(folder / "logs")]
        self.process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | environment,
        )
        self.output = ""

    def until(self, text: str) -> str:
        """Read on until a line holds `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return line
        raise AssertionError(f"{text!r} never came:\n{self.output}")

    def end(self) -> int:
        """Wait for its end."""
        assert self.process.stdout is not None
        self.output += self.process.stdout.read()
        return self.process.wait(60)

    def note(self, number: int = 0) -> dict[str, Any]:
        path, deadline = self.notes / f"{self.port + number}.json", time.monotonic() + 30
        while time.monotonic() < deadline:
            if path.exists() and (text := path.read_text()):
                found: dict[str, Any] = json.loads(text)
                return found
            time.sleep(0.05)
        raise AssertionError(f"no server {number}:\n{self.output}")

    def pids(self) -> list[int]:
        return [pid for number in range(self.servers) for pid in self.note(number)["pids"]]

    def all_gone(self, pids: list[int], seconds: float = 40) -> bool:
        deadline = time.monotonic() + seconds
        while any(map(alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return not any(map(alive, pids))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    commands: list[Command] = []

    def start(*options: str, **more: Any) -> Command:
        commands.append(Command(tmp_path / str(len(commands)), *options, **more))
        return commands[-1]

    yield start
    for command in commands:
        if command.process.poll() is None:
            command.process.kill()
        command.process.wait(30)
        if command.process.stdout is not None:
            command.process.stdout.close()


def test_two_servers_with_their_flags_end_with_ctrl_c(serve: Callable[..., Command]) -> None:
    command = serve(
        "--api-key-env", "OWN_KEY", "--revision", "abc", "--", "--quantization", "awq", servers=2, OWN_KEY="k1"
    )
    line = command.until("--set")
    urls = [f"http://127.0.0.1:{command.port + n}/v1" for n in range(2)]
    assert f"models.vision_language.runtime.endpoint=[{', '.join(urls)}]" in line
    note = command.note(1)
    arguments = note["arguments"]
    assert arguments[:2] == ["serve", "org/vl"]
    arguments.remove("--trust-request-mm-kwargs")  # has no value; questions tell the rate of their frames
    given = dict(zip(arguments[2::2], arguments[3::2], strict=True))
    assert given["--port"] == str(command.port + 1)
    assert (given["--served-model-name"], given["--revision"], given["--quantization"]) == ("org/vl", "abc", "awq")
    assert json.loads(given["--limit-mm-per-prompt"]) == {"video": 2, "image": 13}
    assert json.loads(given["--media-io-kwargs"])["video"]["num_frames"] == -1
    assert json.loads(given["--structured-outputs-config"])["disable_any_whitespace"] is True
    assert (note["VLLM_API_KEY"], note["VLLM_NO_USAGE_STATS"]) == ("k1", "1")
    assert "k1" not in " ".join(arguments)
    pids = command.pids()
    assert all(map(alive, pids))
    command.process.send_signal(signal.SIGINT)
    assert command.end() == 0
    assert command.all_gone(pids, 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_survives_a_signal(serve: Callable[..., Command], number: signal.Signals) -> None:
    command = serve()
    command.until("--set")
    pids = command.pids()
    command.process.send_signal(number)
    code = command.end()
    assert code == (-number if number == signal.SIGKILL else 0)
    assert command.all_gone(pids)


def test_a_server_that_fails_at_the_start_shows_its_log(serve: Callable[..., Command]) -> None:
    command = serve(how="fails")
    assert command.end() == 1
    assert "server 0 ended with 7 before it was ready" in command.output
    assert "CUDA out of memory" in command.output
    assert command.all_gone(command.pids(), 2)


def test_a_server_that_is_never_ready_is_given_up(serve: Callable[..., Command]) -> None:
    command = serve("--wait", "3", how="never")
    assert command.end() == 1
    assert "not ready after 3 s" in command.output
    assert "loading weights" in command.output
    assert command.all_gone(command.pids(), 2)


def test_a_death_is_told_and_nothing_is_restarted(serve: Callable[..., Command]) -> None:
    command = serve(how="dies:6")
    command.until("--set")
    pids = command.pids()
    assert command.end() == 1
    assert "ended with 9, 0 left. It is not restarted." in command.output
    assert "every server ended" in command.output
    assert command.all_gone(pids, 2)


def test_a_taken_port_is_named(serve: Callable[..., Command], tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        command = serve("--port", str(port))
        assert command.end() == 1
    assert f"127.0.0.1:{port}: Address already in use. Choose another with --port." in command.output


def test_too_few_gpus(serve: Callable[..., Command]) -> None:
    command = serve("--gpus", "4", "--servers", "2", CUDA_VISIBLE_DEVICES="0,1,2,3,4,5")
    assert command.end() == 1
    assert "need 8, this machine shows 6" in command.output


def test_gpus_are_dealt_out(serve: Callable[..., Command]) -> None:
    command = serve("--gpus", "2", servers=2, CUDA_VISIBLE_DEVICES="4,5,6,7")
    command.until("--set")
    assert [command.note(n)["CUDA_VISIBLE_DEVICES"] for n in range(2)] == ["4,5", "6,7"]
    assert "--tensor-parallel-size" in command.note()["arguments"]


def test_json_is_one_line_on_stdout(serve: Callable[..., Command]) -> None:
    command = serve("--json", "--name", "judge")
    found = json.loads(command.until("endpoints"))
    assert found == {"model": "judge", "endpoints": [f"http://127.0.0.1:{command.port}/v1"]}


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="environment of its own"):
        ServerPlan(model="m", served_model="m", vllm="/nowhere/vllm").command("h", 1)


def test_a_profile_says_model_and_revision(tmp_path: Path) -> None:
    profile = tmp_path / "own.yaml"
    profile.write_text(
        "models:\n  vision_language:\n    backend: ffpdata.models.vlm.backend:ServedVision\n"
        "    model: Qwen/Qwen2.5-VL-72B-Instruct\n    revision: abc\n"
        "    settings: {clips_as: images, frames: 6, questions: {screen: {frames: 10}}}\n"
        "    runtime: {endpoint: 'http://h:8000/v1'}\n"
    )
    plan = plan_for("", str(profile), servers=2)
    assert (plan.model, plan.served_model, plan.revision) == ("Qwen/Qwen2.5-VL-72B-Instruct",) * 2 + ("abc",)
    assert (plan.videos, plan.images) == (0, 2 * 10 + 3 * 4), "two clips of a screening and its close-up"
    with pytest.raises(UsageError, match=r"runtime\.endpoint"):
        plan_for("", "cpu")
    with pytest.raises(UsageError, match="--model"):
        plan_for("", "")


def test_servers_on_a_cluster_end_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[str] = []

    class Slow:
        def __init__(self, actor: object, name: str, log: str) -> None:
            self.name = name

        def stop(self) -> None:
            time.sleep(0.5)
            stopped.append(self.name)

    def remote(**_: object) -> Callable[[type], SimpleNamespace]:
        return lambda kind: SimpleNamespace(remote=lambda *given: None)

    up = SimpleNamespace(is_initialized=lambda: True, cluster_resources=dict, remote=remote)
    monkeypatch.setitem(sys.modules, "ray", up)
    monkeypatch.setattr(fleet, "_RemoteServer", Slow)
    with fleet._on_ray(ServerPlan(model="m", served_model="m", servers=4, gpus=0), tmp_path):
        begun = time.monotonic()
    assert len(stopped) == 4
    assert time.monotonic() - begun < 1.5
