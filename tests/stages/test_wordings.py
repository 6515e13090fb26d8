"""`wordings`: further instructions and captions of a pair, none by default."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffpdata.core.config import load_pipeline
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec
from ffpdata.models.classical.vision_language.template_vision import TemplateVision
from ffpdata.stages.wordings import Wordings, WordingsSettings
from tests.answers import ANSWERS
from tests.stages.alone import PROMPTS, Alone, Answering, asked, flat, spec, square


def stage_of(backend: type, answers: dict[str, Any] | None = None, **settings: Any) -> Wordings:
    prompts = {name: Prompt.load(PROMPTS / f"{name}.yaml") for name in Wordings.prompts}
    model = spec(backend, answer=answers) if answers else ModelSpec.of(backend)
    return Wordings(WordingsSettings(**settings), {"vision_language": model}, prompts)


def test_nothing_is_asked_for_by_default() -> None:
    for name in ("local_editing", "stylization", "background", "text_removal", "reference_swap", "propagation"):
        [stage] = [stage for stage in load_pipeline(name).build() if stage.name == "wordings"]
        assert stage.idle
        assert not stage.applies({"task": "removal"})
        stage.setup()
        assert not stage._loaded, "no model is loaded"
    assert not Wordings(WordingsSettings(captions=True)).idle


def test_the_wordings_of_a_model_that_agree_are_kept(alone: Alone, pair: dict[str, Any]) -> None:
    stage = stage_of(Answering, ANSWERS["wordings"], instructions=["short", "casual"])
    row = alone.row(stage, **pair, instruction="Remove the dog in the yard from the video.", task="removal")
    assert stage.process(row) == {"instructions": {name: ANSWERS["wordings"][name] for name in ("short", "casual")}}
    [call] = asked(stage)
    assert call["prompt"] == "wordings"
    assert set(call["media"]) == {"source", "target"}


def test_a_wording_of_another_edit_or_other_colours_is_left_out(alone: Alone, pair: dict[str, Any]) -> None:
    answer = ANSWERS["wordings"] | {
        "short": "Restyle the whole video.",
        "casual": "Could you take out that purple dog?",
    }
    stage = stage_of(Answering, answer, instructions=["short", "casual", "descriptive"])
    row = alone.row(stage, **pair, instruction="Remove the dog in the yard from the video.", task="removal")
    assert set(stage.process(row)["instructions"]) == {"descriptive"}
    assert row.notes["left_out_short"]["instruction_task"] == 0
    assert row.notes["left_out_casual"]["instruction_colours"] == 0


def test_an_answer_that_breaks_its_rules_costs_the_wordings_alone(alone: Alone, pair: dict[str, Any]) -> None:
    stage = stage_of(Answering, ANSWERS["wordings"] | {"short": "The dog should go."}, instructions=["short"])
    row = alone.row(stage, **pair, instruction="Remove the dog.", task="removal")
    assert stage.process(row) == {"instructions": {}}
    assert "must start with" in row.notes["left_out_wordings"]


def test_captions_that_are_there_are_kept(alone: Alone, pair: dict[str, Any]) -> None:
    stage = stage_of(Answering, ANSWERS["pair_captions"], captions=True)
    edit = pair | {"instruction": "Make the dog black.", "task": "modification"}
    assert alone.process(stage, **edit, caption="A dog.") == {"target_caption": ANSWERS["pair_captions"]["target"]}
    assert alone.process(stage, **edit, caption="A dog.", target_caption="A black dog.") == {}
    styled = pair | {"instruction": "Restyle it as a poster.", "task": "stylization", "style": "poster"}
    assert alone.process(stage, **styled) == {"caption": ANSWERS["pair_captions"]["source"], "caption_by": "model"}


def test_an_addition_is_shown_the_other_way_round(alone: Alone, pair: dict[str, Any]) -> None:
    stage = stage_of(Answering, ANSWERS["instruct_addition"], additions=True)
    found = alone.process(stage, **pair, instruction="Remove the dog.", task="removal")
    assert found == {"addition_instruction": ANSWERS["instruct_addition"]["instruction"]}
    [call] = asked(stage)
    assert int(np.mean(call["media"]["source"])) < 100 < int(np.mean(call["media"]["target"]))
    assert alone.process(stage, **pair, instruction="Make the dog black.", task="modification") == {}


def test_the_templates_reword_every_task(alone: Alone) -> None:
    stage = stage_of(TemplateVision, instructions=["short", "descriptive", "casual"], captions=True, additions=True)
    red, blue = (flat(120) for _ in range(2))
    red[square()], blue[square()] = (220, 20, 20), (20, 20, 220)
    files = {"mask_video": alone.masks("m", square()), "object": "ball"}
    clips = {name: alone.video(name, frames) for name, frames in (("red", red), ("blue", blue), ("none", flat(120)))}
    recoloured = alone.process(
        stage,
        **files,
        source_video=clips["red"],
        target_video=clips["blue"],
        task="modification",
        caption="A ball lies there.",
        instruction="Change the colour of the ball in the middle of the picture from red to blue.",
    )
    assert recoloured["instructions"]["short"] == "Make the ball blue."
    assert recoloured["instructions"]["casual"] == "Hey, could you make the ball blue for me?"
    assert set(recoloured["instructions"]) == {"short", "descriptive", "casual"}
    assert recoloured["target_caption"].startswith("The video shows a ball in ")
    removed = alone.process(
        stage,
        **files,
        source_video=clips["red"],
        target_video=clips["none"],
        task="removal",
        caption="A ball lies there.",
        target_caption="The ground.",
        instruction="Remove the red ball in the middle of the picture.",
    )
    assert removed["instructions"]["short"] == "Remove the ball."
    assert removed["addition_instruction"].startswith("Add a red ball")
