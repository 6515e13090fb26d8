"""`grade`: the score of a pair, and what is rejected by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffpdata.core.stage import Reject
from ffpdata.metrics.score import ScoreModel
from ffpdata.stages.grade import Grade, GradeSettings
from tests.stages.alone import Alone, flat, light_square, square

TERM = {"metric": "noise", "side": "high", "knee": 1, "scale": 2, "weight": 1.5}
MODEL = {"about": "of this test", "tasks": {"modification": {"intercept": 2, "terms": [TERM]}}, "same": {}}


def grade(alone: Alone, settings: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    source = light_square()
    target = source.copy()
    target[square()] = (200, 30, 30)
    row: dict[str, Any] = {
        "source_video": alone.video("source", source),
        "target_video": alone.video("target", target),
        "mask_video": alone.masks("mask", square()),
        "task": "modification",
        "object": "lamp",
        "instruction": "Change the colour of the lamp from white to red.",
        "verify_score": 8.0,
        "noise": 0.2,
    }
    stage = Grade(GradeSettings(**{"score": MODEL} | (settings or {})))
    return alone.process(stage, **row | values)


def test_a_good_pair_has_the_score_of_no_fault(alone: Alone) -> None:
    found = grade(alone)
    assert found == {
        "instruction_task": 1,
        "instruction_colours": 1,
        "instruction_object": 1,
        "score": 0.8808,
        "score_faults": [],
    }


def test_a_fault_lowers_it_and_is_named(alone: Alone) -> None:
    found = grade(alone, noise=5.0)
    assert found["score"] == 0.2689
    assert found["score_faults"] == ["noise"]
    with pytest.raises(Reject) as caught:
        grade(alone, {"min_score": 0.5}, noise=5.0)
    assert (caught.value.reason, caught.value.detail) == ("score_too_low", "score 0.269, at least 0.5: noise")
    assert caught.value.facts["score"] == 0.2689


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Remove the lamp from the video.", "instruction_task_too_low"),
        ("Change the colour of the lamp from white to green.", "instruction_colours_too_low"),
    ],
)
def test_words_that_do_not_fit_are_rejected(alone: Alone, text: str, reason: str) -> None:
    limits = {"modification": {"instruction_task": {"min": 0.5}, "instruction_colours": {"min": 0.5}}}
    with pytest.raises(Reject) as caught:
        grade(alone, {"limits": limits}, instruction=text)
    assert caught.value.reason == reason
    assert caught.value.facts["score"] == 0.8808


def test_a_task_without_a_model_is_scored_by_the_judge(alone: Alone) -> None:
    found = grade(alone, task="background", instruction="Put the lamp before another background.")
    assert found["score"] == 0.8


def test_a_stylization_may_name_the_colours_of_its_reference(alone: Alone) -> None:
    picture = np.full((48, 64, 3), (230, 220, 30), np.uint8)
    said = "Restyle the whole video as a smooth yellow picture, with clear contrast."
    row = {"task": "stylization", "instruction": said, "mask_video": None}
    assert grade(alone, **row)["instruction_colours"] == 0
    assert grade(alone, **row, reference_image=alone.image("style", picture))["instruction_colours"] == 1


def test_the_score_s_model_counts_in_the_key() -> None:
    other = MODEL | {"about": "another"}
    keys = {Grade(GradeSettings(score=m)).fixed_key(()) for m in (MODEL, other, ScoreModel(**MODEL), "default")}
    assert len(keys) == 3


def test_a_stylization_is_held_against_its_style_image(alone: Alone) -> None:
    clip = alone.video("styled", flat((180, 40, 30)))
    row = {"task": "stylization", "instruction": "Restyle it as a picture.", "target_video": clip, "mask_video": None}
    own, other = (alone.image(name, flat(colour)[0]) for name, colour in (("a", (200, 30, 30)), ("b", (30, 60, 200))))
    assert grade(alone, **row, reference_image=own)["style_agreement"] > 0.7
    limits = {"stylization": {"style_agreement": {"min": 0.2}}}
    with pytest.raises(Reject, match="style_agreement_too_low"):
        grade(alone, {"limits": limits}, **row, reference_image=other)
    assert "style_agreement" not in grade(alone), "of a local edit there is nothing to say"
