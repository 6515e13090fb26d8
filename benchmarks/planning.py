"""The wall time that `ffpdata plan` simulates against that of a real local Ray run of stages that sleep.

    python -m benchmarks.planning [--items 60] [--seconds 0.5 1.5 0.25] [--cpus 4] [--rounds 1]

The stages hold a core each and sleep, so that a busy machine hardly matters, and Ray is told of as many cores as asked
for. Both times count from the first item's start to the last one's end; a worker's start is measured in the same run
and given to the simulation. A second case has two GPUs that only Ray believes in, one of them shared.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from benchmarks.timing import verdict
from ffpdata.core.stage import Item, Resources, Row, Stage
from ffpdata.manifests.manifest import ManifestWriter
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import connect, records
from ffpdata.planning.flow_model import ANY, Rates, StageModel, TrackModel, constant
from ffpdata.planning.simulation import Simulation, StartTimes, Workload
from ffpdata.processes.ray_cluster import loopback_only
from ffpdata.runners.interrupts import Stop
from ffpdata.runners.placement import Node
from ffpdata.runners.progress import Progress
from ffpdata.runners.ray import run_ray
from ffpdata.runners.session import make_flow

BOUND = 1.10


class Sleeps(Stage):
    """Sleeps its seconds."""

    version = 1
    reads = ("number",)
    sleep = 0.0

    def process(self, row: Row) -> Mapping[str, Any]:  # noqa: ARG002, D102
        time.sleep(self.sleep)
        return {}


def chain(seconds: Sequence[float], needs: Sequence[Resources]) -> list[Stage]:
    """One stage per duration."""
    stages: list[Stage] = []
    for number, (sleep, need) in enumerate(zip(seconds, needs, strict=True)):
        stage = type(f"Sleeps{number}", (Sleeps,), {"name": f"sleeps_{number}", "sleep": sleep})()
        stage.resources = need
        stages.append(stage)
    return stages


def real(stages: list[Stage], count: int) -> tuple[float, float]:
    """Run the items on Ray: seconds from the first start to the last end, and those until the first worker was up."""
    with tempfile.TemporaryDirectory() as folder:
        run, begun = RunFolder(folder), time.time()
        with ManifestWriter(run.manifest) as writer, Progress(run.store, quiet=True) as progress, Stop() as stop:
            items = [Item(f"item-{i}", {"number": i}) for i in range(count)]
            run_ray(make_flow(stages, items, writer, progress, track="t"), run.store, stop)
        names = [stage.name for stage in stages]
        spans = " union all ".join(f"select epoch(started_at) as began, seconds from {name}" for name in names)
        [span] = records(
            connect(run.store, {"t": names}),
            f"select min(began) as first, max(began + seconds) as last, count(*) as n from ({spans})",
        )
    assert span["n"] == count * len(stages)
    return span["last"] - span["first"], span["first"] - begun


def simulated(stages: list[Stage], count: int, cpus: float, gpus: int, start: float) -> float:
    """The same by simulation, from the first worker's start on."""
    models = []
    for stage in stages:
        sleep = constant(getattr(stage, "sleep"))  # noqa: B009 - of Sleeps
        models.append(StageModel(stage.name, stage.resources, 0.0, {ANY: Rates(seconds=sleep, seconds_lost=sleep)}))
    nodes = [Node("here", cpus, 64.0, [1.0] * gpus)]
    return Simulation(TrackModel("t", models), stages, nodes, Workload(count), StartTimes(start, 0.05)).run().seconds


def main() -> None:
    """Print the ratio of each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--seconds", type=float, nargs=3, default=[0.5, 1.5, 0.25], help="of each stage")
    parser.add_argument("--cpus", type=int, default=4, help="that Ray is told of")
    parser.add_argument("--rounds", type=int, default=1, help="medians count")
    given = parser.parse_args()
    with loopback_only():
        ray.init(
            "local",
            num_cpus=given.cpus,
            num_gpus=2,
            logging_level=logging.ERROR,
            include_dashboard=False,
            log_to_driver=False,
        )
    first, second, third = given.seconds
    cases = {
        "cores": [Resources(memory_gb=0.1)] * 3,
        "cores and GPUs": [
            Resources(gpus=0.5, overlap=1, seconds=first),
            Resources(gpus=1, overlap=1, seconds=second),
            Resources(memory_gb=0.1),
        ],
    }
    good = True
    for name, needs in cases.items():
        stages, took = chain([first, second, third], needs), []
        for _ in range(given.rounds):
            seconds, start = real(stages, given.items)
            took.append((seconds, start, simulated(stages, given.items, given.cpus, 2, start) - start))
        ran, start, said = (statistics.median(one[i] for one in took) for i in range(3))
        ratio = max(ran / said, said / ran)
        good &= verdict(
            f"{name}: off by", ratio, BOUND, f"{ran:.1f} s run, {said:.1f} s simulated, start {start:.1f} s"
        )
    ray.shutdown()
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
