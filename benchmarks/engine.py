"""The Ray runner against Ray Data (one row per block) and cosmos-xenna, side by side in one process.

    python -m benchmarks.engine [--items 1000 10000 100000] [--data-items 300] [--xenna-items 300] [--unit 0.02]
                                [--gpu-items 600] [--stages 8] [--sleep 1:5:60:1 2:10:600:2]

The first part sends items through eight stages that do nothing: what is left is the engine's own cost, the manifest
rows of ours included, which the others do not write. The second lets four stages sleep 1:5:60:1 on eight GPUs that only
Ray believes in; ideal is what the slowest stage allows when every GPU always works.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import resource
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.cluster_utils import Cluster

from benchmarks.timing import verdict
from ffpdata.core.stage import Item, Resources, Row, Stage
from ffpdata.manifests.manifest import ManifestWriter
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.processes.ray_cluster import loopback_only
from ffpdata.runners.interrupts import Stop
from ffpdata.runners.progress import Progress
from ffpdata.runners.ray import run_ray
from ffpdata.runners.session import make_flow

DATA = ("pandas",)
"""What Ray Data needs beside Ray, and ffpdata does not."""
XENNA = ("cosmos_xenna", "tqdm")
"""What cosmos-xenna needs beside Ray; it imports tqdm without asking for it."""
LONGEST = 60
"""What the longest stage of the second part sleeps, in units."""
ITEMS_PER_SECOND = 250.0
MID_RUN, WHOLE_RUN = 0.97, 0.93


class Nothing(Stage):
    """Does nothing to an item."""

    version = 1
    reads = ("number",)

    def process(self, row: Row) -> Mapping[str, Any]:  # noqa: ARG002, D102
        return {}


class Sleep(Stage):
    """Holds a share of a GPU for a while."""

    version = 1
    reads = ("number",)
    sleep = 0.0

    def process(self, row: Row) -> Mapping[str, Any]:  # noqa: ARG002, D102
        time.sleep(self.sleep)
        return {}


def nothing_stages(count: int) -> list[Stage]:
    """So many stages."""
    return [type(f"Nothing{i}", (Nothing,), {"name": f"nothing_{i}"})() for i in range(count)]


def sleep_stages(seconds: list[float], shares: list[float]) -> list[Stage]:
    """One stage per duration, with its share of a GPU per worker."""
    stages: list[Stage] = []
    for i, (length, share) in enumerate(zip(seconds, shares, strict=True)):
        stage = type(f"Sleep{i}", (Sleep,), {"name": f"sleep_{i}", "sleep": length})()
        stage.resources = Resources(gpus=share, seconds=length)
        stages.append(stage)
    return stages


def ours(stages: list[Stage], count: int) -> tuple[float, float, list[float]]:
    """Run the items; wall seconds, CPU seconds of this process, and when each item came out."""
    outs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(folder)
        start, cpu = time.perf_counter(), _own_cpu()
        with ManifestWriter(run.manifest) as writer, Progress(run.store, quiet=True) as progress, Stop() as stop:
            items = [Item(f"item-{i}", {"number": i}) for i in range(count)]
            flow = make_flow(
                stages,
                items,
                writer,
                progress,
                track="t",
                passed=lambda _: outs.append(time.perf_counter() - start),
            )
            run_ray(flow, run.store, stop)
        return time.perf_counter() - start, _own_cpu() - cpu, outs


def ray_data(count: int, stages: int) -> tuple[float, float, list[float]]:
    """Run the same through Ray Data: an actor pool per stage, a row per block."""

    class DoNothing:
        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return row

    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    start, cpu, outs = time.perf_counter(), _own_cpu(), []
    data = ray.data.range(count, override_num_blocks=count)
    for _ in range(stages):
        data = data.map(DoNothing, compute=ray.data.ActorPoolStrategy(size=1), num_cpus=0.1)
    outs.extend(time.perf_counter() - start for _ in data.iter_rows())
    return time.perf_counter() - start, _own_cpu() - cpu, outs


def xenna(count: int, length: int) -> tuple[float, float, list[float]]:
    """Run the same through cosmos-xenna's streaming executor: one actor per stage, as it starts them."""
    from cosmos_xenna.pipelines import v1

    class DoNothing(v1.Stage):
        required_resources = v1.Resources(cpus=0.1)

        def process_data(self, in_data: list[float]) -> list[float]:
            return in_data

    class TellTime(DoNothing):
        def process_data(self, in_data: list[float]) -> list[float]:
            return [time.time() for _ in in_data]

    stages = [v1.StageSpec(made(), num_workers=1) for made in [DoNothing] * (length - 1) + [TellTime]]
    config = v1.PipelineConfig(return_last_stage_outputs=True)
    start, cpu, begun = time.perf_counter(), _own_cpu(), time.time()
    found = v1.run_pipeline(v1.PipelineSpec(input_data=list(range(count)), stages=stages, config=config))
    return time.perf_counter() - start, _own_cpu() - cpu, sorted(at - begun for at in found)


def steady(outs: list[float]) -> float:
    """Items per second between the first and the last tenth."""
    low, high = outs[len(outs) // 10], outs[-len(outs) // 10]
    return 0.8 * len(outs) / max(high - low, 1e-9)


def show(name: str, count: int, wall: float, cpu: float, outs: list[float]) -> None:
    """Print one line."""
    print(
        f"{name:<12} {count:>7} items: {count / wall:7.1f} items/s whole, {steady(outs):7.1f} steady, first out after "
        f"{outs[0]:.1f} s, driver {1000 * cpu / count:.2f} CPU ms per item",
        flush=True,
    )


def engine(counts: list[int], data_items: int, stages: int) -> bool:
    """The first part."""
    good, rates = True, []
    for count in counts:
        wall, cpu, outs = ours(nothing_stages(stages), count)
        rates.append(count / wall)
        show("ffpdata", count, wall, cpu, outs)
    if data_items and (missing := [name for name in DATA if importlib.util.find_spec(name) is None]):
        print(f"Ray Data is left out: not installed ({', '.join(missing)}); pip install pandas")
    elif data_items:
        show("Ray Data", data_items, *ray_data(data_items, stages))
    good &= verdict("bound / items per second at the largest", ITEMS_PER_SECOND / rates[-1], 1.0, f"{rates[-1]:.0f}/s")
    return good


def third(count: int, stages: int) -> None:
    """The first part for cosmos-xenna, which wants a Ray with a dashboard that tells of many actors."""
    if missing := [name for name in XENNA if importlib.util.find_spec(name) is None]:
        print(f"cosmos-xenna is left out: not installed ({', '.join(missing)}); pip install cosmos-xenna tqdm")
        return
    os.environ["PYTHON_LOG"] = "error"
    os.environ |= dict.fromkeys(("RAY_MAX_LIMIT_FROM_API_SERVER", "RAY_MAX_LIMIT_FROM_DATA_SOURCE"), "40000")
    ray.init("local", num_cpus=2, logging_level=logging.ERROR, include_dashboard=True, log_to_driver=False)
    show("cosmos-xenna", count, *xenna(count, stages))
    ray.shutdown()


def gpus(base: list[float], unit: float, count: int) -> bool:
    """The second part: one ratio of durations."""
    seconds = [unit * part for part in base]
    shares = [0.3, 0.4, 1.0, 0.3]
    wall, _, outs = ours(sleep_stages(seconds, shares), count)
    ideal = 7 / seconds[2]  # the light stages share one GPU
    middle = steady(outs) / ideal
    whole = count / (wall - outs[0] + sum(seconds)) / ideal
    name = ":".join(f"{part:g}" for part in base)
    good = verdict(f"{name}, mid-run, bound / share of ideal", MID_RUN / middle, 1.0, f"{middle:.3f} of ideal")
    detail = f"{whole:.3f} of ideal, from the first item's start"
    return good & verdict(f"{name}, whole run, bound / share of ideal", WHOLE_RUN / whole, 1.0, detail)


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--data-items", type=int, default=300, help="for Ray Data; 0 leaves it out")
    parser.add_argument("--xenna-items", type=int, default=300, help="for cosmos-xenna; 0 leaves it out")
    parser.add_argument("--unit", type=float, default=0.02, help=f"seconds of the longest stage, over {LONGEST}")
    parser.add_argument("--stages", type=int, default=8, help="in the first part")
    parser.add_argument("--sleep", nargs="+", default=["1:5:60:1", "2:10:600:2"], help="ratios of the second part")
    parser.add_argument("--gpu-items", type=int, default=600, help="for the second part; 0 leaves it out")
    given = parser.parse_args()
    with loopback_only():
        ray.init("local", num_cpus=2, logging_level=logging.ERROR, include_dashboard=False, log_to_driver=False)
    good = engine(given.items, given.data_items, given.stages)
    ray.shutdown()
    if given.xenna_items:
        third(given.xenna_items, given.stages)
    if not given.gpu_items:
        raise SystemExit(not good)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 8, "include_dashboard": False})
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    for ratio in given.sleep:
        base = [float(part) for part in ratio.split(":")]
        good &= gpus(base, given.unit * LONGEST / max(base), given.gpu_items)
    ray.shutdown()
    cluster.shutdown()
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
