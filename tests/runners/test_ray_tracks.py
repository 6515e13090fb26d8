"""Both pipelines on a Ray cluster of three nodes: the shards of the inline runner, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from ffpdata.core.config import load_pipeline
from ffpdata.export.shards import export
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.runners.session import StartOptions, start
from tests.conftest import SMALL_SETTINGS, Finished


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
def test_the_shards_are_those_of_inline(finished: Finished, samples: Path, tmp_path: Path) -> None:
    run, work = RunFolder(tmp_path / "run"), StartOptions(runner="ray", quiet=True)
    start(run, load_pipeline("local_editing", overrides=SMALL_SETTINGS), str(samples / "clips.csv"), work)
    start(run, load_pipeline("stylization", overrides=SMALL_SETTINGS), str(samples), work)
    export(run, tmp_path / "out", shard_size_mb=1)
    assert files(tmp_path / "out") == files(finished.out)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
