"""`ffpdata serve-vlm --ray` on a real cluster: the servers run in actors and end with whoever started them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator

import pytest
from ray.cluster_utils import Cluster

from tests.serve.test_serve_vlm import Command, alive, serve  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    yield made
    made.shutdown()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_servers_end_with_whoever_started_them(
    cluster: Cluster,
    serve: Callable[..., Command],  # noqa: F811
    number: signal.Signals,
) -> None:
    command = serve("--ray", "--json", servers=2, RAY_ADDRESS=cluster.address)
    endpoints = json.loads(command.until("endpoints"))["endpoints"]
    assert [url.rpartition(":")[2] for url in endpoints] == [f"{command.port + n}/v1" for n in range(2)]
    pids = command.pids()
    assert all(map(alive, pids))
    command.process.send_signal(number)
    assert command.process.wait(60) == (0 if number == signal.SIGINT else -number)
    assert command.all_gone(pids)


def test_a_server_that_cannot_start_says_why(cluster: Cluster, serve: Callable[..., Command]) -> None:  # noqa: F811
    command = serve("--ray", "--vllm", "/nowhere/vllm", RAY_ADDRESS=cluster.address)
    command.until("environment of its own")
    assert command.process.wait(60) == 1


def test_a_cluster_with_too_few_gpus(cluster: Cluster, serve: Callable[..., Command]) -> None:  # noqa: F811
    command = serve("--ray", "--gpus", "4", servers=2, RAY_ADDRESS=cluster.address)
    command.until("2 servers with 4 GPUs each: the cluster has 0 GPUs")
    assert command.process.wait(60) == 1
