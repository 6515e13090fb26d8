"""`judge_scores`: which frames are shown, what the grades come to, and answers that are none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec, Reject
from ffpdata.metrics.judgement import judge_columns, judged_frames
from ffpdata.stages.judge_scores import JudgeScores, JudgeSettings
from tests.stages.alone import PROMPTS, Alone, Answering, Measuring, asked, asking, flat, spec

GRADES = {"follows": 3, "quality": 2, "unedited": 1}
ANSWER = GRADES | {f"{name}_reason": "seen" for name in GRADES}


class BySight(Answering):
    """Follows where the second picture is lighter, and cannot say of black ones."""

    name = "by_sight"

    def ask(self, prompt: Prompt, media: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
        super().ask(prompt, media, fields)
        if not media["target"].any():
            raise Reject("answer_invalid", "judge: no JSON (asked 3 times)", {"requests": 3})
        return ANSWER | {"follows": 3 if media["target"].mean() > media["source"].mean() + 5 else 0}


def by_sight(**settings: Any) -> JudgeScores:
    prompts = {"judge": Prompt.load(PROMPTS / "judge.yaml")}
    given = ModelSpec.of(BySight, settings={"answer": {}})
    return JudgeScores(JudgeSettings(**settings), {"vision_language": given}, prompts)


def clips(alone: Alone, source: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    videos = {"source_video": alone.video("source", source), "target_video": alone.video("target", target)}
    return videos | {"instruction": "Make it lighter."}


def test_ten_frames_of_every_length_and_all_of_a_shorter_one() -> None:
    for count in (10, 24, 33, 61, 64, 81):
        assert len(judged_frames(count, 10)) == 10
    assert judged_frames(81, 10) == [0, 8, 16, 24, 32, 40, 48, 56, 64, 72]
    assert judged_frames(81, 2) == [0, 40]
    assert judged_frames(3, 10) == [0, 1, 2]


def test_the_sum_is_ours() -> None:
    other = {"follows": 0, "quality": 3, "unedited": 3, "total": 9}
    found = judge_columns([GRADES, other])
    assert found == {"judge_score": 6, "judge_follows": 1.5, "judge_quality": 2.5, "judge_unedited": 2}
    with pytest.raises(ValueError, match="no answer"):
        judge_columns([])


def test_each_frame_beside_its_own_and_who_graded(alone: Alone) -> None:
    stage = by_sight(frames=4)
    ramp = np.repeat(np.linspace(20, 220, 9).astype(np.uint8), 48 * 64 * 3).reshape(9, 48, 64, 3)
    found = alone.process(stage, **clips(alone, flat(120, 9), ramp))
    assert found["judge_follows"] == pytest.approx(3 / 4), "frame 6 of 0, 2, 4 and 6 is lighter"
    assert found["judge_score"] == pytest.approx(3 + 3 / 4)
    key = Prompt.load(PROMPTS / "judge.yaml").key
    assert found["judge"] == f"by_sight@1, prompt {key[:8]}, 4 frames"
    shown = asked(stage)
    assert [round(one["media"]["target"].mean() / 25) for one in shown] == [1, 3, 5, 7]
    assert {one["media"]["source"].shape for one in shown} == {(48, 64, 3)}
    assert {tuple(one["fields"].items()) for one in shown} == {(("instruction", "Make it lighter."),)}


def test_an_answer_that_is_none_ends_the_item_with_its_frame(alone: Alone) -> None:
    stage = by_sight()
    target = np.concatenate([flat(90, 3), flat(0, 2)])
    with pytest.raises(Reject, match=r"frame 3: judge: no JSON") as caught:
        alone.process(stage, **clips(alone, flat(40), target))
    assert caught.value.reason == "answer_invalid"
    with pytest.raises(Reject, match="9 frames of the source and 5 of the target") as caught:
        alone.process(stage, **clips(alone, flat(40, 9), target))
    assert caught.value.reason == "clips_differ"
    wrong = asking(JudgeScores, ANSWER | {"quality": 4}, Answering, frames=1)
    with pytest.raises(Reject, match="quality"):
        alone.process(wrong, **clips(alone, flat(40), flat(90)))


def test_what_nobody_can_judge_passes() -> None:
    pair = {"source_video": "a", "target_video": "b", "instruction": "c"}
    assert asking(JudgeScores, ANSWER).applies(pair)
    assert not asking(JudgeScores, ANSWER).applies(pair | {"instruction": None})
    measuring = JudgeScores(specs={"vision_language": spec(Measuring)})
    assert not measuring.applies(pair)
    assert measuring.idle
    assert not JudgeScores().applies(pair)
