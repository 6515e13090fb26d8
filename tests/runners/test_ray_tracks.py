"""Both pipelines, killed and finished on a Ray cluster of three nodes: the shards of a run that nobody killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from ffpdata.core.config import load_pipeline
from ffpdata.export.shards import export
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.runners.session import StartOptions, start
from tests.conftest import SMALL_SETTINGS, Finished

KILLS = 2


@pytest.fixture(scope="module")
def _three_nodes() -> Iterator[None]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
    yield
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("_three_nodes")
def test_killed_inline_and_finished_on_ray_gives_the_same_shards(
    finished: Finished, samples: Path, tmp_path: Path
) -> None:
    tracks = {"local_editing": str(samples / "clips.csv"), "stylization": str(samples)}
    for kill in range(KILLS):
        _killed(list(tracks)[kill % 2], tracks[list(tracks)[kill % 2]], tmp_path / "run", random.Random(kill))
    run, work = RunFolder(tmp_path / "run"), StartOptions(runner="ray", quiet=True)
    for name, source in tracks.items():
        start(run, load_pipeline(name, overrides=SMALL_SETTINGS), source, work)
    export(run, tmp_path / "out", shard_size_mb=1)
    assert files(tmp_path / "out") == files(finished.out)
    for stage in run.manifest.stages():
        done = f"select item_id, key from \"{stage}_history\" where status <> 'failed'"
        assert records(run.connect(), f"{done} group by all having count(*) > 1") == [], f"{stage}: once is enough"
    assert not list((tmp_path / "run").rglob("*.tmp*"))


def _killed(pipeline: str, source: str, run: Path, draw: random.Random) -> None:
    """Start a run in a process of its own, and kill it."""
    command = [sys.executable, "-m", "ffpdata.cli", "run", pipeline, "--input", source, "--run", str(run), "-q"]
    command += [part for text in SMALL_SETTINGS for part in ("--set", text)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        time.sleep(draw.uniform(2.0, 8.0))
        process.send_signal(signal.SIGKILL)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
