"""`instruct`: the sentence that a user would have said."""

from __future__ import annotations

from typing import Any

import pytest

from ffpdata.core.stage import Reject
from ffpdata.stages.instruct import Instruct
from tests.answers import ANSWERS
from tests.stages.alone import Alone, asked, asking


def test_an_instruction_is_asked_for_with_task_and_object(alone: Alone, pair: dict[str, Any]) -> None:
    stage = asking(Instruct, ANSWERS["instruct"])
    assert alone.process(stage, **pair, task="swap") == ANSWERS["instruct"]
    [call] = asked(stage)
    assert {"task": "swap", "object": "dog"}.items() <= call["fields"].items()
    for bad in ("The dog should go away from here.", "Remove it."):
        with pytest.raises(Reject, match="answer_breaks_rules"):
            alone.process(asking(Instruct, {"instruction": bad}), **pair, task="swap")
