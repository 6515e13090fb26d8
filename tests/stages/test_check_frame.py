"""`check_frame`: an edited frame changed where it should be and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffpdata.core.stage import Reject
from ffpdata.metrics.limits import Limit
from ffpdata.stages.check_frame import CheckFrame, frame_numbers
from tests.stages.alone import HEIGHT, WIDTH, Alone, flat, square

OWN = np.random.default_rng(0).integers(60, 180, (HEIGHT, WIDTH, 3), np.uint8)


def painted(*boxes: tuple[slice, slice]) -> np.ndarray:
    edited = OWN.copy()
    for box in boxes:
        edited[box] = 255 - edited[box] // 4
    return edited


INSIDE, CORNER = np.s_[16:32, 16:32], np.s_[0:10, 50:64]


def test_the_numbers_tell_inside_from_outside() -> None:
    outline = square()[0]
    good = frame_numbers(OWN, painted(INSIDE), outline, outline)
    assert good["frame_changed_inside"] > 0.9
    assert good["frame_changed_outside"] < 0.03  # the difference is looked at through a blur
    assert good["frame_psnr_outside"] == 100
    assert good["frame_largest_piece"] == 1
    spilt = frame_numbers(OWN, painted(INSIDE, CORNER), outline, outline)
    assert 0.05 < spilt["frame_changed_outside"] < 0.1
    assert spilt["frame_psnr_outside"] < 20
    assert spilt["frame_largest_piece"] == pytest.approx(256 / (256 + 140), rel=0.2)
    same = frame_numbers(OWN, OWN, outline, outline)
    assert (same["frame_changed"], same["frame_changed_inside"], same["frame_largest_piece"]) == (0, 0, 0)
    assert same["frame_structure"] == pytest.approx(1)
    whole = frame_numbers(OWN, 255 - OWN, None, None)
    assert "frame_changed_outside" not in whole
    assert whole["frame_changed"] > 0.4


def test_the_wider_region_may_change_and_the_outline_must() -> None:
    region = np.zeros((HEIGHT, WIDTH), bool)
    region[10:40, 10:40] = True
    found = frame_numbers(OWN, painted(np.s_[11:15, 11:39]), square()[0], region)
    assert found["frame_changed_inside"] < 0.1
    assert found["frame_changed_outside"] == 0


def row(alone: Alone, edited: np.ndarray, task: str = "swap") -> dict[str, Any]:
    mask = alone.masks("mask", square())
    found = {"source_video": alone.video("in", np.repeat(OWN[None], 5, 0)), "task": task}
    return found | {"edited_first_frame": alone.image("edited", edited), "mask_video": mask, "condition_mask": mask}


def test_a_frame_beyond_its_limits_is_rejected_with_its_numbers(alone: Alone) -> None:
    limits = {"swap": {"frame_changed_inside": Limit(min=0.5)}, "stylization": {"frame_changed": Limit(min=0.9)}}
    stage = CheckFrame(limits=limits)
    assert set(alone.process(stage, **row(alone, painted(INSIDE)))) == set(CheckFrame.writes)
    with pytest.raises(Reject) as why:
        alone.process(stage, **row(alone, OWN))
    assert why.value.reason == "frame_changed_inside_too_low"
    assert set(why.value.facts or {}) == set(CheckFrame.writes)
    with pytest.raises(Reject, match="frame_size_differs"):
        alone.process(stage, **{**row(alone, OWN), "edited_first_frame": alone.image("small", flat(9)[0, :32])})
