"""Guards on followed masks: what passes, and every way of losing the object by its reason."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.core.errors import Reject
from ffpdata.models.mask_guards import GuardSettings, check_mask_facts, clip_box, first_accepted, mask_facts
from ffpdata.models.protocols import Segmentation

BOX = (10.0, 20.0, 50.0, 60.0)


def moving(frames: int = 9, step: int = 3) -> np.ndarray:
    """A 40x40 square that moves to the right on 96x160, bool (frames, 96, 160)."""
    masks = np.zeros((frames, 96, 160), bool)
    for t, mask in enumerate(masks):
        mask[20:60, 10 + step * t : 50 + step * t] = True
    return masks


def reason(masks: np.ndarray, **limits: float) -> str:
    with pytest.raises(Reject) as caught:
        check_mask_facts(mask_facts(masks, [BOX]), GuardSettings(**limits))
    assert caught.value.facts["first_area"] == pytest.approx(masks[0].mean())
    return caught.value.reason


def test_a_good_mask_passes_with_its_measures() -> None:
    facts = mask_facts(moving(), [BOX])
    check_mask_facts(facts, GuardSettings())
    assert facts["area"] == facts["first_area"] == facts["largest_area"] == pytest.approx(1600 / (96 * 160))
    assert facts["coverage"] == facts["temporal_iou"] == facts["inside_box"] == facts["largest_area_jump"] == 1
    assert facts["border"] == 0
    assert facts["complement"] < 0.05
    assert all(isinstance(value, float) for value in facts.values())


def test_an_object_that_moves_by_more_than_its_size_is_still_followed() -> None:
    masks = np.zeros((3, 96, 160), bool)
    for t, mask in enumerate(masks):
        mask[20:60, 50 * t : 50 * t + 40] = True
    assert mask_facts(masks)["temporal_iou"] == 1


def test_a_single_frame_has_no_successor() -> None:
    check_mask_facts(mask_facts(moving(frames=1), [BOX]), GuardSettings())


def test_large_masks_are_measured_on_a_coarser_grid() -> None:
    fine = np.repeat(np.repeat(moving(), 9, axis=1), 9, axis=2)
    box = tuple(9 * value for value in BOX)
    assert mask_facts(fine, [box]) == pytest.approx(mask_facts(moving(), [BOX]))


def test_nothing_in_the_first_frame() -> None:
    masks = moving()
    masks[0] = False
    assert reason(masks) == "no_target"
    assert reason(np.zeros_like(masks)) == "no_target"


def test_another_thing_than_the_box_held() -> None:
    assert reason(np.roll(moving(), 60, axis=2)) == "mask_outside_box"


def test_the_whole_image_in_one_frame() -> None:
    masks = moving()
    masks[4] = True
    assert reason(masks) == "whole_image"


def test_all_but_the_object() -> None:
    masks = moving(step=0)
    masks[5:] = ~masks[5:]
    assert mask_facts(masks)["complement"] == 1
    assert reason(masks, max_frame_area=0.95) == "complement_mask"


def test_sizes_coverage_jumps_overlap_and_border() -> None:
    masks = moving()
    assert reason(masks, min_area=0.2) == "mask_too_small"
    assert reason(masks, max_area=0.05) == "mask_too_large"
    gone = moving()
    gone[5:] = False
    assert reason(gone, min_coverage=0.6) == "coverage"
    assert mask_facts(gone)["coverage"] == pytest.approx(5 / 9)
    jump = moving()
    jump[4:] = False
    jump[4:, 20:30, 22:62] = True
    assert mask_facts(jump)["largest_area_jump"] == pytest.approx(4)
    assert reason(jump) == "area_jump"
    other = moving()
    other[1::2] = other[1::2].transpose(0, 2, 1)[:, :96, :96].repeat(2, axis=2)[:, :, :160] & False
    other[1::2, 40:44, 10:] = True
    assert reason(other, max_area_jump=100) == "temporal_iou"
    edge = np.zeros_like(masks)
    edge[:, :, :20] = edge[:, :, -20:] = True
    assert reason(edge, min_inside_box=0) == "mask_touches_border"


def test_leaving_the_frame_is_no_jump() -> None:
    masks = np.zeros((12, 96, 160), bool)
    for t, mask in enumerate(masks):
        mask[20:60, max(0, 40 - 8 * t) : max(0, 80 - 8 * t)] = True
    facts = mask_facts(masks)
    assert facts["largest_area_jump"] <= 2.01
    assert facts["coverage"] == pytest.approx(10 / 12)
    check_mask_facts(facts, GuardSettings())


def test_the_first_phrase_that_passes_is_the_answer() -> None:
    def attempt(phrase: str) -> Segmentation:
        if phrase != "ball":
            raise Reject("no_target" if phrase == "ghost" else "area_jump", phrase, {"area": 0.5})
        return Segmentation(moving(), phrase, 1.0)

    assert first_accepted(["ghost", "dog", "ball"], attempt).phrase == "ball"
    with pytest.raises(Reject, match="area_jump: 'dog': dog") as caught:
        first_accepted(["ghost", "dog", "cat"], attempt)
    assert caught.value.facts == {"area": 0.5}
    with pytest.raises(Reject, match="no_target: 'ghost': ghost"):
        first_accepted(["ghost"], attempt)
    with pytest.raises(Reject, match="no_target: no phrase and no box"):
        first_accepted([], attempt)


def test_a_box_is_cut_to_the_frame() -> None:
    assert clip_box((-5, 10, 30, 200), (96, 160)) == (0, 10, 30, 96)
    for box in [(160, 0, 200, 50), (10, 10, 10, 50), (30, 10, 20, 50)]:
        with pytest.raises(Reject, match="no_target"):
            clip_box(box, (96, 160))
