"""`instruct_style`: the sentence that asks for a style."""

from __future__ import annotations

from typing import Any

from ffpdata.stages.instruct_style import InstructStyle
from tests.answers import ANSWERS
from tests.stages.alone import Alone, asked, asking


def test_the_instruction_of_a_style_names_it(alone: Alone, pair: dict[str, Any]) -> None:
    stage = asking(InstructStyle, ANSWERS["instruct_style"])
    assert alone.process(stage, **pair, style="loose oil painting", task="stylization") == ANSWERS["instruct_style"]
    assert asked(stage)[0]["fields"] == {"style": "loose oil painting", "task": "stylization", "fps": 16.0}
