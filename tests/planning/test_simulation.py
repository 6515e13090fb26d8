"""The simulated run against what can be worked out, and against what the scheduler of Ray does."""

from __future__ import annotations

import math

import pytest

from ffpdata.core.resources import Resources
from ffpdata.core.stage import Stage
from ffpdata.planning.cluster import Cluster, misfits, wall_time
from ffpdata.planning.flow_model import ANY, Rates, StageModel, TrackModel, constant, expect, inputs
from ffpdata.planning.settings import load_settings
from ffpdata.planning.simulation import Simulated, Simulation, StartTimes, Workload
from ffpdata.runners.placement import Node
from ffpdata.runners.scheduling import Scheduling

Spec = tuple[float, Resources, float]
NO_START = StartTimes(0, 0)


def chain(*specs: Spec) -> tuple[TrackModel, list[Stage]]:
    stages, models = [], []
    for number, (seconds, need, passes) in enumerate(specs):
        stage = type(f"S{number}", (Stage,), {"name": f"s{number}"})()
        stage.resources = need
        stages.append(stage)
        took = {"seconds": constant(seconds), "seconds_lost": constant(seconds), "passes": constant(passes)}
        models.append(StageModel(stage.name, need, 0.0, {ANY: Rates(**took)}))
    return TrackModel("t", models), stages


def run(*specs: Spec, nodes: list[Node], items: int = 40, start: StartTimes = NO_START, **more: int) -> Simulated:
    model, stages = chain(*specs)
    return Simulation(model, stages, nodes, Workload(items), start, **more).run()


@pytest.mark.parametrize(("items", "workers"), [(40, 4), (41, 4), (3, 4)])
def test_one_stage(items: int, workers: int) -> None:
    found = run((10.0, Resources(gpus=1, seconds=10.0), 1.0), nodes=[Node("a", 1, 8, [1.0] * workers)], items=items)
    assert found.seconds == pytest.approx(math.ceil(items / workers) * 10, rel=0.02)
    assert (found.pairs.sum(), found.gpu_seconds) == (items, items * 10)


def test_two_stages_that_share_cores() -> None:
    found = run((2.0, Resources(), 1.0), (3.0, Resources(), 0.5), nodes=[Node("a", 2, 64, [])])
    assert found.seconds == pytest.approx(40 * 5 / 2, rel=0.03)
    assert 10 < found.pairs.sum() < 30


def test_two_stages_on_gpus_of_their_own() -> None:
    """The first is through after 80 s, and its GPU then helps the second: 200 seconds of work on two GPUs."""
    found = run(
        (2.0, Resources(gpus=1, seconds=2.0), 1.0),
        (3.0, Resources(gpus=1, seconds=3.0), 1.0),
        nodes=[Node("a", 1, 8, [1.0, 1.0])],
    )
    assert found.seconds == pytest.approx(100, rel=0.03)


def test_stages_take_turns_at_one_gpu() -> None:
    found = run(
        (2.0, Resources(gpus=1), 1.0),
        (3.0, Resources(gpus=1), 1.0),
        nodes=[Node("a", 1, 8, [1.0])],
        start=StartTimes(1, 5),
    )
    assert found.seconds == pytest.approx(40 * 5 + 2 * 6, rel=0.03)
    assert found.stuck == []


def test_workers_and_models_start_first() -> None:
    one = (10.0, Resources(gpus=1, seconds=10.0), 1.0)
    found = run(one, nodes=[Node("a", 1, 8, [1.0])], items=2, start=StartTimes(7, 60))
    assert found.seconds == pytest.approx(7 + 60 + 20, rel=0.02)


def test_a_model_server_answers_so_many_questions_at_once() -> None:
    model, stages = chain((6.0, Resources(cpus=1, concurrency=8), 1.0))
    model.stages[0].served_gpus = 0.5
    nodes = [Node("a", 4, 64, [])]
    found = Simulation(model, stages, nodes, Workload(40), NO_START, seats=4).run()
    assert found.seconds == pytest.approx(40 / 4 * 6, rel=0.05)
    assert found.cost.sum() == 40 * 6 * 0.5


def test_it_follows_the_rules_of_the_ray_runner() -> None:
    """No rule of placement or dispatch stands in the simulation: it has the scheduler itself."""
    model, stages = chain((1.0, Resources(), 1.0))
    simulation = Simulation(model, stages, [Node("a", 1, 8, [])], Workload(1), NO_START)
    assert type(simulation.rules) is Scheduling
    assert not {"spawn", "place", "kill"} & set(vars(type(simulation.pools)))


def test_a_stage_that_fits_nowhere_is_said_and_ends_the_run() -> None:
    model, stages = chain((1.0, Resources(gpus=2), 1.0))
    cluster = Cluster(gpus=1, cpus=4, memory_gb=8, node_gpus=8, gpu_memory_gb=80)
    assert "stage 's0' needs 2 GPU on one node" in next(misfits(stages, cluster))
    assert Simulation(model, stages, cluster.nodes(), Workload(3), NO_START).run().stuck == ["s0"]
    stages[0].resources = Resources(gpus=1, gpu_memory_gb=90)
    assert "needs 90 GB of GPU memory" in next(misfits(stages, cluster))


def test_a_sample_stands_for_a_long_run() -> None:
    model, stages = chain((60.0, Resources(gpus=1, seconds=60.0), 0.5), (2.0, Resources(), 1.0))
    cluster = Cluster.of(128, load_settings().node)
    arrivals = inputs(200_000)
    expected = expect(model, arrivals)
    found = wall_time(model, stages, cluster, arrivals, expected=expected, start=StartTimes(3, 120), spread={})
    assert found.share < 0.02
    assert found.seconds == pytest.approx(200_000 * 60 / 128, rel=0.03)
    assert found.busy == pytest.approx(1, abs=0.03)
