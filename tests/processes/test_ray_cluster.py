"""A local Ray that a command starts: which addresses its processes listen at."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same as an IPv6 address, and ::1, as the kernel writes them."""

SCRIPT = """
import json, os, time
import ray  # as in a notebook: imported before ffpdata starts it
from ffpdata.processes.ray_cluster import CLUSTERS, ray_cluster

@ray.remote(num_cpus=1)
class Worker:
    def pid(self):
        return os.getpid()

with ray_cluster(num_cpus=1, log_to_driver=False):
    worker = Worker.remote()
    ray.get(worker.pid.remote())
    time.sleep(1)  # the agents of the node begin a moment after it
    nodes = [node["NodeManagerAddress"] for node in ray.nodes()]
    print(json.dumps([nodes, ray.get_runtime_context().gcs_address]), flush=True)
    input()
print(json.dumps(os.environ.get(CLUSTERS)))
"""


def listening(root: int) -> dict[str, set[str]]:
    """Name to the addresses, in hex, that a process and those that it started listen at."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A":
                sockets[f"socket:[{rest[5]}]"] = local.partition(":")[0]
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest_of = stat.read_text().partition("(")[2].rpartition(")")
            parents[int(stat.parent.name)] = (name, int(rest_of.split()[1]))
    family = {root}
    while more := {pid for pid, (_, parent) in parents.items() if parent in family} - family:
        family |= more
    found: dict[str, set[str]] = {}
    for pid in family:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if (target := str(entry.readlink())) in sockets:
                    found.setdefault(parents[pid][0], set()).add(sockets[target])
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """Ray's own folder, whose path must be short: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="ffp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_a_local_ray_is_its_own_and_listens_on_the_loopback_interface_alone(folder: Path) -> None:
    from ray._private.utils import write_ray_address
    from ray.cluster_utils import Cluster

    somebody_s = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        (folder / "ray").mkdir()
        write_ray_address(somebody_s.address, str(folder / "ray"))  # where `ray.init` looks for a cluster
        _is_its_own(folder, somebody_s.address)
    finally:
        somebody_s.shutdown()


def _is_its_own(folder: Path, somebody_s: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["RAY_TMPDIR"] = str(folder)
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        assert process.stdout
        try:
            addresses = process.stdout.readline()
            found = listening(process.pid)
            rest, _ = process.communicate("\n", timeout=60)
        finally:
            process.kill()
    nodes, address = json.loads(addresses)
    assert nodes == ["127.0.0.1"]
    assert address != somebody_s
    assert {"raylet", "gcs_server"} <= set(found)
    assert len(found) >= 4, "the driver, the worker and the node's agents are among them"
    assert {name: seen - LOOPBACK for name, seen in found.items() if seen - LOOPBACK} == {}
    assert json.loads(rest) is None, "what the process starts later is not told"


@pytest.mark.parametrize(
    ("variables", "before"),
    [
        ({"RAY_ADDRESS": "head:6379"}, None),
        ({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}, "1"),
    ],
)
def test_a_cluster_that_was_asked_for_keeps_its_addresses(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], before: str | None
) -> None:
    from ray._private import ray_constants

    from ffpdata.processes.ray_cluster import CLUSTERS, loopback_only

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with loopback_only():
        assert not ray_constants.ENABLE_RAY_CLUSTER
        assert os.environ[CLUSTERS] == "0"
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with loopback_only():
        assert ray_constants.ENABLE_RAY_CLUSTER
        assert os.environ.get(CLUSTERS) == before
