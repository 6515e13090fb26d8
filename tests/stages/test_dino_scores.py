"""`dino_scores`: steady and shuffled clips, and a source beside them."""

from __future__ import annotations

import pytest

from ffpdata.core.stage import ModelSpec
from ffpdata.stages.dino_scores import DinoScores
from tests.stages.alone import Alone, flat
from tests.stages.planted import RED, Looks, shuffled, turning


def test_order_of_still_steady_and_shuffled_clips(alone: Alone) -> None:
    stage = DinoScores(specs={"frame_encoder": ModelSpec.of(Looks)})
    still, steady, mixed = (
        alone.process(stage, target_video=alone.video(name, clip), source_video=alone.video("source", turning()))
        for name, clip in (("still", flat(RED)), ("steady", turning()), ("mixed", shuffled(turning())))
    )
    assert still["dino_consistency"] == pytest.approx(1, abs=1e-4)
    assert still["dino_consistency"] > steady["dino_consistency"] > mixed["dino_consistency"] + 0.2
    assert {one["source_dino_consistency"] for one in (still, steady, mixed)} == {steady["dino_consistency"]}
    alone_ = alone.process(stage, target_video=alone.video("single", flat(RED, 1)))
    assert alone_ == {"dino_consistency": None, "source_dino_consistency": None}
    assert not DinoScores().applies({})
