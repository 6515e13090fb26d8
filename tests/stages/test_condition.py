"""`condition`: the region of each variant, in pixels that follow the clip's size, within its limits."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import FatalError
from ffpdata.core.stage import Reject
from ffpdata.media.codec import read_masks
from ffpdata.stages.condition import Condition, ConditionSettings, Region, apply_region
from tests.stages.alone import FPS, HEIGHT, WIDTH, Alone, square


def condition(alone: Alone, masks: np.ndarray, variant: str, **settings: object) -> tuple[np.ndarray, float]:
    stage = Condition(ConditionSettings(**settings))
    size = {"width": WIDTH, "height": HEIGHT, "fps": FPS}
    made = alone.process(stage, mask_video=alone.masks("mask", masks), variant=variant, **size)
    return read_masks(made["condition_mask"]), made["condition_area"]


def test_the_box_of_the_paper_is_the_bounding_box_with_its_margin(alone: Alone) -> None:
    ell = square()
    ell[:, 16:24, 24:32] = False
    region, area = condition(alone, ell, "bbox")
    # 12 % of 16 px is 1.92, and 8 px at 720 lines are 1 px at 48: about 3 px on every side, and the corner filled.
    expected = [np.argwhere(frame) for frame in region]
    for found in expected:
        top, left, bottom, right = *found.min(0), *(found.max(0) + 1)
        assert (bottom - top) * (right - left) == len(found), "a whole rectangle"
        assert all(2 <= margin <= 4 for margin in (16 - top, 16 - left, bottom - 32, right - 32))
    assert area == pytest.approx(region.mean())


def test_a_variant_without_steps_is_the_mask_itself(alone: Alone) -> None:
    region, area = condition(alone, square(), "plain", variants={"plain": {}})
    assert np.array_equal(region, square())
    assert area == pytest.approx(16 * 16 / (48 * 64))


def test_sizes_scale_with_the_short_side() -> None:
    masks = np.zeros((1, 96, 128), bool)
    masks[0, 48, 64] = True
    for scale, radius in ((1.0, 30), (0.5, 15), (1 / 720, 1)):
        grown = np.argwhere(apply_region(masks, Region(dilate=30), scale)[0])
        assert grown.max(0).tolist() == [48 + radius, 64 + radius], "a size that is set is at least one pixel"
    assert np.array_equal(apply_region(masks, Region(), 1.0), masks)


def test_steps_apply_in_their_order() -> None:
    masks = square(side=10)
    masks[:, 17, 40] = True  # a speck
    opened = apply_region(masks, Region(erode=2, dilate=2), 1.0)
    assert not opened[:, :, 30:].any(), "eroding first takes the speck away"
    band = apply_region(square(), Region(boundary=2), 1.0)
    assert not band[:, 24, 24].any()
    assert band[:, 16, 24].all()
    two = square(side=4) | square(side=4, left=40)
    assert apply_region(two, Region(hull=True), 1.0)[:, 17, 30].all(), "the hull holds what lies between two parts"
    wide = apply_region(two, Region(box=True, box_margin_px=4), 1.0)
    assert wide[0].sum() == (4 + 8) * (28 + 8)


def test_a_region_turned_over_is_everything_else(alone: Alone) -> None:
    around = {"erode": 30, "invert": True}  # 2 px at 48 lines
    region, area = condition(alone, square(), "around", variants={"around": around}, max_area=0.97)
    kept = square(top=18, left=18, side=12)
    assert not region[kept].any()
    assert region[~square()].all(), "the rim of the object belongs to its surroundings"
    assert area == pytest.approx(region.mean())
    assert "invert" not in Region().model_dump(), "a region that is not turned over has the key that it had"
    assert Region(**around).model_dump()["invert"] is True


def test_a_region_that_is_empty_or_too_large_is_refused_with_its_numbers(alone: Alone) -> None:
    with pytest.raises(Reject) as caught:
        condition(alone, square(side=4), "eroded", variants={"eroded": {"erode": 60}})
    assert caught.value.reason == "condition_empty"
    assert "'eroded'" in caught.value.detail
    everything = np.ones((2, HEIGHT, WIDTH), bool)
    with pytest.raises(Reject) as caught:
        condition(alone, everything, "mask")
    assert caught.value.reason == "condition_too_large"
    assert caught.value.detail == "the region covers 1.00 of the clip, at most 0.5"
    assert condition(alone, everything, "mask", max_area=1.0)[1] == 1.0


def test_the_area_is_the_mean_over_all_frames(alone: Alone) -> None:
    masks = np.zeros((4, HEIGHT, WIDTH), bool)
    masks[0] = True
    region, area = condition(alone, masks, "plain", variants={"plain": {}})
    assert area == 0.25
    assert region.any((1, 2)).tolist() == [True, False, False, False], "a frame without the object stays empty"


def test_a_variant_that_nobody_defined_stops_the_run(alone: Alone) -> None:
    with pytest.raises(FatalError, match=r"condition\.variants has no 'bobx'; did you mean 'bbox'"):
        condition(alone, square(), "bobx")


@pytest.mark.parametrize("steps", [{"erode": -1}, {"box_margin": -0.1}, {"grow": 3}])
def test_wrong_steps_are_refused(steps: dict) -> None:
    with pytest.raises(ValidationError):
        ConditionSettings(variants={"bad": steps})


def test_the_papers_boundary_of_the_eroded_mask(alone: Alone) -> None:
    """Laid over either profile, each task has both schemes; without the box only a band inside the contour is kept."""
    for name in ("gpu,paper", "small,paper"):
        pipeline = load_pipeline("local_editing", name)
        settings = {stage.name: stage.settings for stage in pipeline.stages}
        edits = {(edit["task"], edit["variant"]) for edit in settings["propose"]["edits"]}
        assert edits == {(task, variant) for task in ("removal", "swap") for variant in ("bbox", "boundary")}
        assert set(pipeline.models) - {"tuned_propagator"} == set(load_pipeline("local_editing", "cpu").models)
    variants = ConditionSettings.model_validate(settings["condition"]).variants
    assert variants["bbox"].box, "those of the pipeline stay"
    masks = np.zeros((1, 120, 120), bool)
    masks[:, 20:100, 20:100] = True
    band = apply_region(masks, variants["boundary"], 1.0)
    assert not (band & ~masks).any(), "nothing outside the mask"
    assert not band[:, 40:80, 40:80].any(), "what lies inside is not repainted"
    assert 10 <= band[0, 60, :60].sum() <= 13, "6 pixels on either side of the contour of the eroded mask"
    plain = apply_region(masks, variants["eroded"], 1.0)
    assert plain[:, 60, 60].all(), "the eroded mask keeps its middle"
