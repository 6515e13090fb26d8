"""`background_caption`, and what the stages after it know of tasks that are no removal and no swap."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec, Reject
from ffpdata.models.classical.remover import TemporalFill
from ffpdata.models.classical.swapper import Recolour
from ffpdata.models.classical.vision_language.template_vision import TemplateVision
from ffpdata.stages.background_caption import BackgroundCaption
from ffpdata.stages.measure import Measure
from ffpdata.stages.screen import Screen
from ffpdata.stages.synthesize import Synthesize
from tests.answers import PLACE
from tests.stages.alone import FPS, PROMPTS, Alone, asked, asking, flat, light_square, square

CAPTION = "The video shows a quiet yard with a dog that crosses it from the left to the right side of it."
ANSWER = {"caption": f"{PLACE} behind a dog that runs."}


def test_it_describes_the_edited_clip(alone: Alone) -> None:
    stage = asking(BackgroundCaption, ANSWER)
    values = {"source_video": alone.video("in", flat(40)), "caption": CAPTION, "object": "dog", "task": "background"}
    assert alone.process(stage, **values) == {"target_caption": ANSWER["caption"]}
    [call] = asked(stage, "vision_language")
    assert call["fields"] == {"caption": CAPTION, "object": "dog", "fps": 16.0}
    assert [stage.applies({"task": task}) for task in ("background", "removal", "swap")] == [True, False, False]


def test_what_only_measures_thinks_of_no_place_and_reads_no_writing() -> None:
    for name in ("background_caption", "identify_text"):
        prompt = Prompt.load(PROMPTS / f"{name}.yaml")
        with pytest.raises(Reject) as caught:
            TemplateVision(ModelSpec.of(TemplateVision)).ask(prompt, {"source": flat(40)}, {"object": "dog"})
        assert caught.value.reason == "needs_trained_model"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("background", "recolour makes swap, and not background"),
        ("text_removal", "temporal_fill makes removal, and not text_removal"),
    ],
)
def test_classical_editors_reject_what_they_do_not_make(alone: Alone, task: str, said: str) -> None:
    stage = Synthesize(None, {"remover": ModelSpec.of(TemporalFill), "swapper": ModelSpec.of(Recolour)})
    files = {"source_video": alone.video("in", flat(40)), "condition_mask": alone.masks("mask", square())}
    with pytest.raises(Reject) as caught:
        alone.process(stage, **files, task=task, caption=CAPTION, object="dog", seed=1, fps=FPS)
    assert (caught.value.reason, caught.value.detail) == ("needs_trained_model", said)


def test_the_change_is_measured_around_the_object(alone: Alone) -> None:
    source = light_square()
    target = np.where(square()[..., None], source, 120).astype(np.uint8)
    files = {"source_video": alone.video("in", source), "target_video": alone.video("out", target)}
    files |= {"mask_video": alone.masks("mask", square()), "condition_mask": alone.masks("region", ~square())}
    around, inside = (alone.process(Measure(), **files, task=task) for task in ("background", "swap"))
    assert around["change_inside"] > 80
    assert inside["change_inside"] < 15
    assert around["psnr_outside"] > 25, "the object is what must stay"


def test_which_tasks_are_screened() -> None:
    tasks = ("removal", "text_removal", "background", "swap", "modification", "stylization")
    assert [Screen().applies({"task": task}) for task in tasks] == [True, True, True, False, False, False]


@pytest.mark.parametrize(("name", "task"), [("background", "background"), ("text_removal", "text_removal")])
@pytest.mark.parametrize("profile", ["cpu", "gpu", "small"])
def test_profiles_leave_a_task_s_own_edits_alone(name: str, task: str, profile: str) -> None:
    settings = {entry.name: entry.settings for entry in load_pipeline(name, profile).stages}
    assert [edit["task"] for edit in settings["propose_task"]["edits"]] == [task]
    assert settings["propose_task"]["edits"][0]["variant"] in settings["condition"]["variants"]
    assert task in settings["measure"]["limits"]
