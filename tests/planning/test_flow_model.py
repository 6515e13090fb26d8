"""The arithmetic of a plan, against numbers that are worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.resources import Resources
from ffpdata.core.stage import ModelSpec
from ffpdata.media.geometry import Geometry
from ffpdata.planning.assumed import AssumedModel, put_draft
from ffpdata.planning.denoising import FULL, relative_cost, tokens
from ffpdata.planning.draws import Sampler, interval
from ffpdata.planning.flow_model import ANY, Rates, StageModel, TrackModel, constant, expect, inputs
from ffpdata.planning.settings import Assumption, load_settings


def stage(name: str, need: Resources, served: float = 0.0, **rates: Rates) -> StageModel:
    return StageModel(name, need, served, {ANY: Rates(), **rates})


def rates(seconds: float = 0.0, passes: float = 1.0, lost: float | None = None, **more: float) -> Rates:
    found = {name: constant(value) for name, value in more.items()}
    lost = seconds if lost is None else lost
    return Rates(seconds=constant(seconds), seconds_lost=constant(lost), passes=constant(passes), **found)


def test_yields_fan_out_and_outcomes() -> None:
    """100 clips; 80 pass; each gives 1 removal and 2 swaps; half the removals and 3 of 4 swaps pass the editor."""
    fan = rates(1.0, 0.8)
    fan.children = {"removal": constant(1.0), "swap": constant(2.0)}
    model = TrackModel(
        "t",
        [
            StageModel("plan", Resources(), 0.0, {ANY: fan}),
            stage("edit", Resources(gpus=1), removal=rates(100, 0.5, lost=10), swap=rates(60, 0.75)),
            stage("judge", Resources(cpus=2), 0.5, removal=rates(8, 0.9), swap=rates(8, 1.0, applies=0.0)),
        ],
        kept={"removal": constant(0.5), "swap": constant(1.0)},
        pair_bytes=constant(10.0),
    )
    found = expect(model, inputs(100))
    edit, judge = found.stages["edit"], found.stages["judge"]
    assert found.stages["plan"].passed[0] == 80
    assert (edit.items[0], edit.passed[0]) == (240, 40 + 120)
    assert edit.gpu_seconds[0] == 40 * 100 + 40 * 10 + 160 * 60
    assert (judge.items[0], judge.passed[0], judge.served_gpu_seconds[0]) == (40, 36, 40 * 8 * 0.5)
    assert found.pairs["removal"][0] == 18
    assert found.pairs["swap"][0] == 120
    assert found.total.exported[0] == 138 * 10


def test_items_with_one_question_cost_it_once() -> None:
    fan = rates()
    fan.children = {"removal": constant(1.0), "swap": constant(1.0)}
    shared = rates(30, 0.5, computed=0.5, written=7.0)
    model = TrackModel("t", [StageModel("plan", Resources(), 0.0, {ANY: fan}), stage("mask", Resources(gpus=1))])
    model.stages[1].rates = {ANY: shared}
    found = expect(model, inputs(10)).stages["mask"]
    assert (found.items[0], found.passed[0]) == (20, 10)
    assert (found.gpu_seconds[0], found.written[0]) == (10 * 30, 10 * 0.5 * 7)


def test_items_that_wait_are_the_rest_of_a_run() -> None:
    model = TrackModel("t", [stage("a", Resources()), stage("b", Resources()), stage("c", Resources())])
    model.stages[2].rates[ANY] = rates(1.0, 0.25)
    found = expect(model, {0: {ANY: constant(4)}, 2: {ANY: constant(8)}})
    assert [each.items[0] for each in found.stages.values()] == [4, 4, 12]
    assert found.all_pairs[0] == 3


def test_drafts_spare_what_would_be_turned_away() -> None:
    """Of 100 edits 60 are good. Drafts catch half of the bad ones and lose a tenth of the good ones."""
    check, making, after = rates(), rates(100.0), rates(0.0, 0.6)
    put_draft(check, [making, after], caught=constant(0.5), lost=constant(0.1), audit=constant(0.0))
    assert check.passes[0] == pytest.approx(0.74)  # 54 good and 20 bad ones are made in full
    assert (making.passes[0], after.passes[0]) == (1.0, pytest.approx(54 / 74))


def test_audited_drafts_are_made_all_the_same() -> None:
    check, after = rates(), rates(0.0, 0.6)
    put_draft(check, [after], caught=constant(0.5), lost=constant(0.1), audit=constant(1.0))
    assert (check.passes[0], after.passes[0]) == (pytest.approx(1.0), pytest.approx(0.6))


def test_seconds_follow_steps_guidance_and_clip() -> None:
    def vace(**settings: float) -> ModelSpec:
        return ModelSpec(backend="b", model="Wan-AI/Wan2.1-VACE-14B", settings=settings)

    full, fast = vace(steps=50, guidance=5.0), vace(steps=4, guidance=1.0)
    assert tokens(FULL) == 75_600
    assert relative_cost(full, full, FULL, FULL) == 1
    assert relative_cost(fast, full, FULL, FULL) == pytest.approx((4 * 7864 + 1402) / (100 * 7864 + 1402))
    half = relative_cost(vace(steps=25, guidance=5.0), full, FULL, FULL)
    assert half == pytest.approx(0.5, abs=0.002)
    draft = relative_cost(fast, fast, Geometry(width=640, height=368), FULL)
    assert draft == pytest.approx(0.126, abs=0.003), "as pipelines/planning/economy.yaml says"
    other = ModelSpec(backend="b", model="own")
    assert relative_cost(other, full, Geometry(width=640, height=368, frames=41), FULL) == pytest.approx(
        0.129, abs=0.001
    )


def test_a_pipeline_becomes_its_stages_tasks_and_shared_answers() -> None:
    edits = "propose.edits=[{task: removal, variant: bbox}, {task: swap, variant: mask}, {task: swap, variant: eroded}]"
    pipeline, base = load_pipeline("local_editing", "gpu", [edits]), load_pipeline("local_editing", "gpu")
    assumed = AssumedModel(pipeline, base, load_settings(), Sampler(10))
    model = {stage.name: stage for stage in assumed.build().stages}
    assert {task: count[0] for task, count in model["propose"].rates[ANY].children.items()} == {"removal": 1, "swap": 2}
    assert model["segment"].of("swap").computed[0] == pytest.approx(1 / 3), "one mask for the edits of a clip"
    assert model["condition"].of("swap").computed[0] == 1
    assert (model["screen"].of("swap").applies[0], model["screen"].of("removal").applies[0]) == (0, 1)
    assert (model["verify"].served_gpus, model["measure"].served_gpus) == (0.5, 0)
    assert model["synthesize"].of("swap").seconds[0] == 3150
    assert assumed.unknown == []


def test_of_several_variants_one_is_kept() -> None:
    edits = "propose.edits=[{task: swap, variant: mask}, {task: swap, variant: eroded}]"
    shares = [f"plan.passes.{name}.any=1" for name in ("condition", "measure", "screen", "grade")] + [
        "plan.passes.verify.any=0.5"
    ]
    settings = load_settings(overrides=[*shares, "plan.duplicates=0"])
    pipeline = load_pipeline("local_editing", "gpu", [edits])
    model = AssumedModel(pipeline, pipeline, settings, Sampler(10)).build()
    # 2 x 0.5 pass, and of a clip at least one with 0.75: of one finished pair 0.75 are kept.
    assert model.kept["swap"][0] == pytest.approx(0.75)


def test_draws_lie_around_their_number() -> None:
    number = Assumption(value=2.0, low=1.0, high=6.0)
    drawn = Sampler(4000).draw("x", number)
    assert drawn[0] == 2
    assert np.median(drawn[1:]) == pytest.approx(2, abs=0.05)
    assert 1 <= drawn.min() < drawn.max() <= 6
    assert np.array_equal(drawn, Sampler(4000).draw("x", number)), "two plans differ by what they change alone"
    low, high = interval(drawn, 0.9)
    assert 1 < low < 1.5
    assert 3.5 < high < 6
