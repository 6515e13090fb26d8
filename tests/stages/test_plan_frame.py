"""`plan_frame`: what the editor is told, and what the edited clip is said to show."""

from __future__ import annotations

from ffpdata.stages.plan_frame import PlanFrame
from tests.answers import ANSWERS
from tests.stages.alone import Alone, asked, asking, flat, square

CAPTION = "The video shows a dog in a yard."
PLAN = ANSWERS["plan_frame"]


def test_a_local_edit_is_thought_of_by_the_model(alone: Alone) -> None:
    stage = asking(PlanFrame, PLAN)
    row = {"source_video": alone.video("in", flat(90)), "task": "swap", "caption": CAPTION, "object": "dog"}
    made = alone.process(stage, **row, mask_video=alone.masks("mask", square()))
    assert made == {
        "edit_instruction": PLAN["instruction"],
        "target_caption": PLAN["caption"],
        "object": "dog",
    }
    [one] = asked(stage)
    fields = one["fields"]
    assert (fields["task"], fields["object"], fields["caption"]) == ("swap", "dog", CAPTION)
    added = alone.process(stage, **{**row, "task": "addition", "object": None})
    assert added["object"] == PLAN["object"], "what comes is the object from here on"
    assert asked(stage)[1]["fields"]["object"] == "scene"


def test_a_caption_of_the_source_is_none_of_the_target(alone: Alone) -> None:
    stage = asking(PlanFrame, {**PLAN, "caption": CAPTION})
    row = {"source_video": alone.video("in", flat(90)), "task": "modification", "caption": CAPTION, "object": "dog"}
    assert alone.process(stage, **row)["target_caption"] is None


def test_a_stylization_needs_no_thought(alone: Alone) -> None:
    stage = asking(PlanFrame, PLAN)
    row = {"source_video": alone.video("in", flat(90)), "caption": CAPTION, "style": "{loose} oil"}
    made = alone.process(stage, **row, task="stylization", style_caption="a yard in oil")
    assert made["edit_instruction"].startswith("Redraw the whole of picture 1 in the style of picture 2: {loose} oil.")
    assert (made["target_caption"], made["object"]) == ("a yard in oil", None)
    assert not asked(stage)
