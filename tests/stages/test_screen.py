"""`screen`: removals alone, a graded answer, and the least score."""

from __future__ import annotations

from typing import Any

import pytest

from ffpdata.core.stage import Reject
from ffpdata.stages.screen import Screen
from tests.answers import ANSWERS
from tests.stages.alone import Alone, Measuring, asked, asking


def test_removals_alone_are_screened() -> None:
    stage = asking(Screen, ANSWERS["screen"])
    assert stage.applies({"task": "removal"})
    assert not stage.applies({"task": "swap"})


def test_a_screened_removal_keeps_score_and_findings(alone: Alone, pair: dict[str, Any]) -> None:
    stage = asking(Screen, ANSWERS["screen"], Measuring)
    made = alone.process(stage, **pair, task="removal")
    assert (made["screen_score"], made["screen_reason"]) == (8.0, "Nothing of it is left.")
    assert set(made["screen"]) == set(ANSWERS["screen"]) - {"score", "reason"}
    [call] = asked(stage)
    assert call["fields"] == {"motion": 2.5, "unrevealed": 0.1, "object": "dog", "task": "removal"}


@pytest.mark.parametrize(
    ("score", "least", "passes"), [(5, 5.0, True), (4.9, 5.0, False), (7, 7.5, False), (0, 0, True)]
)
def test_the_least_score_of_a_screening_is_a_setting(
    alone: Alone, pair: dict[str, Any], score: float, least: float, passes: bool
) -> None:
    stage = asking(Screen, ANSWERS["screen"] | {"score": score}, min_score=least)
    if passes:
        assert alone.process(stage, **pair, task="removal")["screen_score"] == score
        return
    with pytest.raises(Reject) as caught:
        alone.process(stage, **pair, task="removal")
    assert caught.value.reason == "screened_out"
    assert caught.value.detail.startswith(f"score {score:.1f}, at least {least:g}: ")
    assert caught.value.facts["screen_score"] == score
    assert caught.value.facts["screen"]["object_gone"] is True
