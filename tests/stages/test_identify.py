"""`identify`: the user's word, or the model's candidates of the first frame."""

from __future__ import annotations

import pytest

from ffpdata.core.stage import Reject
from ffpdata.stages.identify import Identify
from tests.stages.alone import Alone, asked, asking, flat


def test_what_the_user_names_is_taken_and_nobody_is_asked(alone: Alone) -> None:
    stage = asking(Identify, {"objects": ["ball"]})
    made = alone.process(stage, source_video=alone.video("source", flat(90)), given_object="Red Car")
    assert made == {"objects": ["Red Car"], "object": "Red Car"}
    assert asked(stage) == []


@pytest.mark.parametrize("given", [{}, {"given_object": None}, {"given_object": ""}])
def test_otherwise_the_model_s_first_candidate_is_the_object(alone: Alone, given: dict) -> None:
    stage = asking(Identify, {"objects": ["ball", "coffee cup"]})
    made = alone.process(stage, source_video=alone.video("source", flat(90)), **given)
    assert made == {"objects": ["ball", "coffee cup"], "object": "ball"}
    [call] = asked(stage)
    assert call["media"]["source"].shape == (48, 64, 3), "the first frame alone"


@pytest.mark.parametrize("objects", [[], ["a", "b", "c", "d"], ["Dog"], ["a red coffee cup"], ["dog", "dog"]])
def test_unlawful_candidates_are_refused(alone: Alone, objects: list[str]) -> None:
    with pytest.raises(Reject, match="answer_breaks_rules"):
        alone.process(asking(Identify, {"objects": objects}), source_video=alone.video("source", flat(90)))
