"""What the stages that ask a question share: what a model is shown, and what becomes of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec, Reject, Row
from ffpdata.stages._vision import VisionStage, numeric_facts
from tests.answers import ANSWERS
from tests.stages.alone import PROMPTS, Alone, Answering, Measuring, Noting, Refusing, asked, asking, spec


class Judge(VisionStage):
    """Asks the question of `screen`, which shows the source and the target."""

    name, version = "judge", 1
    reads = ("source_video", "target_video", "mask_video", "reference_image", "content_image", "object", "style")
    writes = {"score": float, "by": str}
    prompts = ("screen",)

    def process(self, row: Row) -> Mapping[str, Any]:
        answer = self.ask(row, {"object": row["object"], "style": row.get("style"), "number": 0.5})
        return {"score": answer["score"], "by": self.answered_by()}


def test_a_model_that_looks_is_shown_what_the_prompt_shows(alone: Alone, pair: dict[str, Any]) -> None:
    stage = asking(Judge, ANSWERS["screen"])
    assert alone.process(stage, **pair) == {"score": 8, "by": "model"}
    [call] = asked(stage)
    assert list(call["media"]) == ["source", "target"], "in the prompt's order"
    assert call["media"]["source"].shape == (5, 48, 64, 3)
    assert call["media"]["source"].mean() > call["media"]["target"].mean()
    assert call["fields"] == {"object": "dog", "number": 0.5, "fps": 16.0}, "a field without a value is left out"


def test_one_that_measures_is_given_everything_that_the_row_has(alone: Alone, pair: dict[str, Any]) -> None:
    stage = asking(Judge, ANSWERS["screen"], Measuring)
    assert alone.process(stage, **pair)["by"] == "template"
    [call] = asked(stage)
    assert set(call["media"]) == {"source", "target", "mask", "reference"}
    assert call["media"]["mask"].dtype == np.bool_
    assert call["media"]["reference"].shape == (48, 64, 3), "an image is an image"


def test_an_answer_that_breaks_the_prompt_is_refused_with_every_rule(alone: Alone, pair: dict[str, Any]) -> None:
    stage = asking(Judge, ANSWERS["screen"] | {"score": 11, "flicker": "yes"})
    with pytest.raises(Reject) as caught:
        alone.process(stage, **pair)
    assert caught.value.reason == "answer_breaks_rules"
    assert caught.value.detail.startswith("screen: ")
    assert "score" in caught.value.detail
    assert "flicker" in caught.value.detail


def test_what_an_answer_cost_is_noted(alone: Alone, pair: dict[str, Any]) -> None:
    row = alone.row(stage := asking(Judge, ANSWERS["screen"], Noting), **pair)
    stage.process(row)
    assert row.notes == {"screen": {"tokens": 12}}


def test_so_is_the_cost_of_no_answer(alone: Alone, pair: dict[str, Any]) -> None:
    row = alone.row(stage := asking(Judge, {}, Refusing), **pair)
    with pytest.raises(Reject, match="no_answer"):
        stage.process(row)
    assert row.notes == {"screen": {"tokens": 99}}


def test_without_a_model_the_run_stops_with_the_role(alone: Alone, pair: dict[str, Any]) -> None:
    stage = Judge(None, {}, {"screen": Prompt.load(PROMPTS / "screen.yaml")})
    with pytest.raises(FatalError, match="'judge' needs a model for the role 'vision_language'"):
        alone.process(stage, **pair)


def test_a_worker_that_ends_closes_its_model() -> None:
    stage = asking(Judge, ANSWERS["screen"])
    stage.setup()
    model = stage.model("vision_language")
    assert stage.model("vision_language") is model, "loaded once"
    stage.teardown()
    assert model.closed
    assert stage.model("vision_language") is not model


def test_another_answer_of_the_profile_is_another_key() -> None:
    keys = {asking(Judge, ANSWERS["screen"] | {"score": n}).fixed_key(("vision_language",)) for n in (1, 2, 2)}
    assert len(keys) == 2
    assert spec(Answering).identity() != spec(Measuring).identity()


def test_measured_flattens_numbers_and_leaves_out_the_rest() -> None:
    row = Row(
        {"motion": 2.5, "edit_facts": {"unrevealed": 0.1, "how": "fill"}, "task": "swap", "boxes": [1], "n": None}
    )
    assert numeric_facts(row) == {"motion": 2.5, "unrevealed": 0.1}


class Looks:
    """A model that is shown what the question shows."""

    name, version = "looks", 1

    def __init__(self, spec: ModelSpec) -> None: ...


class Asks(VisionStage):
    name = "asks"
    reads = ("source_video",)
    prompts = ("question",)


@pytest.mark.parametrize(
    ("medium", "message"),
    [
        (
            "target",
            r"prompt 'question' shows 'target', and stage 'asks' has no 'target_video' to show: add that column",
        ),
        ("sorce", r"prompt 'question' shows 'sorce', which is no medium; did you mean 'source'\?"),
    ],
)
def test_what_a_stage_cannot_show(medium: str, message: str) -> None:
    prompt = Prompt("question", "What is it?", {"type": "object", "properties": {}}, media={medium: "clip"})
    spec = ModelSpec(backend=f"{__name__}:Looks")
    stage = Asks(specs={"vision_language": spec}, prompts={"question": prompt})
    with pytest.raises(ConfigError, match=message):
        stage.ask(Row({"source_video": "a.mp4"}), {})
