"""A training on several nodes: the processes of `training.trainer` as workers of Ray Train.

`python -m ffpdata.training.ray_nodes job.json`, on a machine of the cluster of `RAY_ADDRESS`. The folder of the job
must be one that all nodes share. Workers are not started again when one dies: the same command resumes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ffpdata.core.errors import FatalError, FfpdataError
from ffpdata.processes.ray_cluster import ray_cluster
from ffpdata.training.job import read_job
from ffpdata.training.launch import report_error
from ffpdata.training.trainer import LONGEST_WAIT, main


def run_on_nodes(config: Path) -> int:
    """Do a job on the nodes that it asks for and return the exit status."""
    try:
        job = read_job(config)
        with ray_cluster():
            return _train(config, job)
    except FfpdataError as err:
        report_error(config, err)
        return 1


def _train(config: Path, job: Any) -> int:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.base_trainer import TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    settings = job.settings
    on_cpu = settings.gpus == 0 or job.spec.runtime.get("device") == "cpu"
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    fit = [node for node in nodes if node["Alive"] and (on_cpu or node["Resources"].get("GPU", 0) >= settings.gpus)]
    if len(fit) < settings.nodes:
        raise FatalError(
            f"nodes is {settings.nodes}, and {len(fit)} of the cluster have {settings.gpus} GPUs: set fewer or add some"
        )
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"config": str(config)},
        scaling_config=ScalingConfig(
            num_workers=job.processes,
            use_gpu=not on_cpu,
            resources_per_worker={"CPU": 1} | ({} if on_cpu else {"GPU": 1}),
            placement_strategy="SPREAD",
        ),
        torch_config=TorchConfig(backend="gloo" if on_cpu else "nccl", timeout_s=int(LONGEST_WAIT.total_seconds())),
        run_config=RunConfig(name="ray", storage_path=str(config.parent), failure_config=FailureConfig(max_failures=0)),
    )
    try:
        trainer.fit()
    except TrainingFailedError as err:
        if config.with_name("error.json").is_file():  # a worker has said what it was
            return 1
        raise FatalError(f"a worker of the training died: {err}") from err
    return 0


def _worker(given: dict[str, str]) -> None:
    config = Path(given["config"])
    if not config.is_file():
        raise FatalError(f"{config} is not on this node: the folder of a training on several nodes must be shared")
    if main(config):
        raise RuntimeError("the training ended with an error, which is in error.json")


if __name__ == "__main__":
    sys.exit(run_on_nodes(Path(sys.argv[1])))
