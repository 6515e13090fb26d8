"""`clip_scores`: what an encoder of colours makes of still, moving, shuffled and mislabelled clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffpdata.core.stage import ModelSpec
from ffpdata.stages.clip_scores import ClipScores
from tests.stages.alone import Alone, flat
from tests.stages.planted import BLUE, GREEN, RED, ImageText, shuffled, turning


def score(alone: Alone, target: np.ndarray, source: np.ndarray | None = None, **values: Any) -> dict[str, Any]:
    stage = ClipScores(specs={"image_text_encoder": ModelSpec.of(ImageText)})
    values["target_video"] = alone.video("target", target)
    if source is not None:
        values["source_video"] = alone.video("source", source)
    found = alone.process(stage, **values)
    assert set(found) == set(stage.writes)
    return found


def test_identical_still_clips_are_wholly_alike(alone: Alone) -> None:
    found = score(alone, flat(RED), flat(RED), target_caption="a red wall")
    likeness = ("clip_consistency", "input_similarity", "first_frame_similarity", "first_frame_similarity_rest")
    assert [found[name] for name in (*likeness, "source_clip_consistency")] == pytest.approx([1.0] * 5, abs=1e-4)
    assert found["frame_text"] == pytest.approx(100, abs=0.1)


def test_shuffled_frames_are_less_steady_and_say_nothing_else(alone: Alone) -> None:
    steady = score(alone, turning(), turning(), target_caption="red")
    mixed = score(alone, shuffled(turning()), turning(), target_caption="red")
    assert mixed["clip_consistency"] < steady["clip_consistency"] - 0.2 < 0.8
    assert mixed["source_clip_consistency"] == steady["source_clip_consistency"] == steady["clip_consistency"]
    assert mixed["frame_text"] == pytest.approx(steady["frame_text"], abs=0.5)
    assert mixed["input_similarity"] < steady["input_similarity"] == pytest.approx(1, abs=1e-3)


def test_swapped_captions_lower_the_alignment_of_both(alone: Alone) -> None:
    own = {colour: score(alone, flat(colour), target_caption=text) for colour, text in ((RED, "red"), (BLUE, "blue"))}
    other = {colour: score(alone, flat(colour), target_caption=text) for colour, text in ((RED, "blue"), (BLUE, "red"))}
    for colour, found in own.items():
        assert found["frame_text"] > other[colour]["frame_text"] + 80


def test_opposite_neighbours_count_as_0_and_the_picture_that_was_given_counts_first(alone: Alone) -> None:
    target = np.concatenate([flat(RED, 1), flat(GREEN, 3)])
    own = score(alone, target)
    assert own["clip_consistency"] == pytest.approx(2 / 3, abs=0.02)
    assert (own["first_frame_similarity"], own["first_frame_similarity_rest"]) == pytest.approx((0.25, 0), abs=0.02)
    given = score(alone, target, edited_first_frame=alone.image("first", flat(GREEN)[0]))
    assert (given["first_frame_similarity"], given["first_frame_similarity_rest"]) == pytest.approx((0.75, 1), abs=0.02)


def test_what_an_item_lacks_is_no_number(alone: Alone) -> None:
    found = score(alone, flat(RED, 1))
    lacking = {"clip_consistency", "source_clip_consistency", "frame_text", "input_similarity"}
    assert {name for name, value in found.items() if value is None} == {*lacking, "first_frame_similarity_rest"}
    assert score(alone, flat(RED), flat(RED, 9))["input_similarity"] is None, "frames do not stand for each other"
    styled = score(alone, flat(RED), style_caption="red paint")
    assert styled["frame_text"] == pytest.approx(100, abs=0.1)


def test_without_the_encoder_items_pass() -> None:
    assert not ClipScores().applies({})
    assert ClipScores().idle
    ClipScores().setup()
