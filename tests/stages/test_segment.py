"""`segment`: what the segmenter is asked, and the numbers of its masks."""

from __future__ import annotations

import pytest

from ffpdata.media.codec import read_masks
from ffpdata.stages.segment import Segment
from tests.stages.alone import FPS, Alone, Lights, asked, light_square, spec


@pytest.mark.parametrize(("given", "box"), [({}, None), ({"box": None}, None), ({"box": [1, 2, 3, 4]}, (1, 2, 3, 4))])
def test_segment_passes_on_the_candidates_and_the_user_s_box(alone: Alone, given: dict, box: tuple | None) -> None:
    stage = Segment(None, {"segmenter": spec(Lights)})
    clip = alone.video("in", light_square())
    made = alone.process(stage, source_video=clip, objects=["dog", "ball"], fps=FPS, **given)
    assert asked(stage, "segmenter") == [{"phrases": ["dog", "ball"], "box": box}]
    assert made["object"] == "dog", "what is outlined is what is named from here on"
    assert (made["phrase"], made["segment_score"], made["segment_facts"]) == ("dog", 0.75, {"temporal_iou": 0.5})


def test_segment_measures_the_masks_that_it_writes(alone: Alone) -> None:
    frames = light_square()
    frames[3:] = 20  # it is gone after three of five frames
    made = alone.process(
        Segment(None, {"segmenter": spec(Lights)}), source_video=alone.video("in", frames), objects=["dog"], fps=FPS
    )
    masks = read_masks(made["mask_video"])
    assert made["mask_area"] == pytest.approx(masks.mean()) == pytest.approx(0.6 * 256 / (48 * 64), rel=0.1)
    assert made["mask_coverage"] == 3 / 5
