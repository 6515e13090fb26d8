"""`verify`: a pair must follow its instruction and reach a score."""

from __future__ import annotations

from typing import Any

import pytest

from ffpdata.core.stage import Reject
from ffpdata.stages.verify import Verify
from tests.answers import ANSWERS
from tests.stages.alone import Alone, asked, asking


def test_a_verified_pair_has_its_score_between_0_and_1(alone: Alone, pair: dict[str, Any]) -> None:
    stage = asking(Verify, ANSWERS["verify"] | {"score": 7.25})
    made = alone.process(stage, **pair, task="removal", instruction="Remove the dog.")
    assert made == {"verify_score": 7.25, "verify_reason": "It is what was asked for.", "score": 0.725}
    fields = asked(stage)[0]["fields"]
    assert {"instruction": "Remove the dog.", "task": "removal", "object": "dog"}.items() <= fields.items()
    assert "style" not in fields, "a local edit has none"


@pytest.mark.parametrize(
    ("answer", "least", "passes"),
    [
        ({"score": 5}, 5.0, True),
        ({"score": 4.9}, 5.0, False),
        ({"score": 10, "follows": False}, 5.0, False),
        ({"score": 3}, 2.0, True),
    ],
)
def test_a_pair_must_follow_its_instruction_and_reach_the_score(
    alone: Alone, pair: dict[str, Any], answer: dict[str, Any], least: float, passes: bool
) -> None:
    stage = asking(Verify, ANSWERS["verify"] | answer, min_score=least)
    if passes:
        assert alone.process(stage, **pair, task="swap", instruction="Swap it.")["score"] == answer["score"] / 10
        return
    with pytest.raises(Reject) as caught:
        alone.process(stage, **pair, task="swap", instruction="Swap it.")
    assert caught.value.reason == "not_verified"
    assert f"score {answer['score']:.1f}, at least {least:g}" in caught.value.detail
    assert caught.value.facts["verify_score"] == answer["score"]
    assert caught.value.facts["verify_reason"]
