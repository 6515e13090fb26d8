"""`assess`: all scores of a pair at once, by the encoders that there are, and a judge where it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec
from ffpdata.stages._scores import SCORES
from ffpdata.stages.assess import Assess, AssessSettings
from tests.stages.alone import PROMPTS, Alone, Answering, Measuring, Refusing, flat, spec
from tests.stages.planted import GREEN, RED, ImageText, Likes, Looks, Quality, WholeClip

ENCODERS = {
    "image_text_encoder": ModelSpec.of(ImageText),
    "frame_encoder": ModelSpec.of(Looks),
    "preference_scorer": ModelSpec.of(Likes),
    "video_text_encoder": ModelSpec.of(WholeClip),
    "quality_scorer": ModelSpec.of(Quality),
}
GRADES = {"follows": 3, "quality": 2, "unedited": 1}
ANSWER = GRADES | {f"{name}_reason": "seen" for name in GRADES}


def stage(models: dict[str, ModelSpec], **settings: Any) -> Assess:
    return Assess(AssessSettings(**settings), models, {"judge": Prompt.load(PROMPTS / "judge.yaml")})


@pytest.fixture
def values(alone: Alone) -> dict[str, Any]:
    clips = {"source_video": alone.video("source", flat(GREEN)), "target_video": alone.video("target", flat(RED))}
    return clips | {"target_caption": "red", "instruction": "Paint it red."}


def test_every_score_in_one_row(alone: Alone, values: dict[str, Any]) -> None:
    found = alone.process(stage(ENCODERS), **values)
    assert set(found) == set(SCORES)
    assert [found[name] for name in ("clip_consistency", "dino_consistency")] == pytest.approx([1, 1], abs=1e-4)
    assert [found[name] for name in ("frame_text", "video_text", "pick_score")] == pytest.approx([100, 100, 20], abs=1)
    assert found["input_similarity"] == pytest.approx(0, abs=0.02)
    some = alone.process(stage({"frame_encoder": ENCODERS["frame_encoder"]}), **values)
    assert set(some) == {"dino_consistency", "source_dino_consistency"}


def test_the_judge_is_asked_for_and_ends_no_pair(alone: Alone, values: dict[str, Any]) -> None:
    judged = stage({"vision_language": spec(Answering, answer=ANSWER)}, judge=True, frames=2)
    assert alone.process(judged, **values)["judge_score"] == 6
    assert judged.applies(values)
    assert not judged.applies(values | {"instruction": ""})
    refusing = stage({**ENCODERS, "vision_language": spec(Refusing, answer={})}, judge=True)
    row = alone.row(refusing, **values)
    assert "judge_score" not in refusing.process(row)
    assert row.notes["not_judged"] == "no_answer: frame 0: three tries"


def test_a_judge_that_is_not_asked_counts_in_no_key(values: dict[str, Any]) -> None:
    values |= {"source_video": "a", "target_video": "b"}
    judge = {"vision_language": spec(Answering, answer=ANSWER)}
    bare = stage(ENCODERS).key_of(values)
    assert stage({**ENCODERS, **judge}).key_of(values) == bare
    assert Assess(specs=ENCODERS).key_of(values) == bare, "whatever the prompt says"
    assert stage({**ENCODERS, **judge}, judge=True).key_of(values) != bare


def test_without_encoders_pairs_pass() -> None:
    for models in ({}, {"vision_language": spec(Measuring)}):
        for settings in ({}, {"judge": True}):
            idle = stage(models, **settings)
            assert idle.idle
            assert not idle.applies({"instruction": "a", "source_video": "b"})
            idle.setup()


@pytest.mark.parametrize("name", ["local_editing", "stylization"])
def test_both_pipelines_have_it_and_the_profile_turns_it_on(name: str) -> None:
    def found(profile: str) -> Assess:
        return next(one for one in load_pipeline(name, profile).build() if isinstance(one, Assess))

    assert found("cpu").idle
    assert not found("gpu,perception").idle
    assert found("gpu,perception").resources.timeout > 2 * (found("gpu,perception").resources.seconds or np.inf)
    assert all(model.licence and model.revision for model in found("gpu,perception").specs.values())
