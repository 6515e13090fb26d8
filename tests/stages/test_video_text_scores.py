"""`video_text_scores`: a clip as a whole against its caption and another one."""

from __future__ import annotations

import pytest

from ffpdata.core.stage import ModelSpec
from ffpdata.stages.video_text_scores import VideoTextScores
from tests.stages.alone import Alone, flat
from tests.stages.planted import BLUE, WholeClip


def test_own_and_swapped_captions(alone: Alone) -> None:
    stage = VideoTextScores(specs={"video_text_encoder": ModelSpec.of(WholeClip)})
    clip = alone.video("target", flat(BLUE))
    own, half, other = (
        alone.process(stage, target_video=clip, target_caption=text)["video_text"]
        for text in ("blue", "blue and red", "red")
    )
    assert (own, half, other) == pytest.approx((100, 70.7, 0), abs=1)
    assert alone.process(stage, target_video=clip, style_caption="blue")["video_text"] == own
    assert alone.process(stage, target_video=clip) == {"video_text": None}
    assert not VideoTextScores().applies({})
