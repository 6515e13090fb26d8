"""`pick_scores`: the mean over the frames, and captions that were swapped."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.core.stage import ModelSpec
from ffpdata.stages.pick_scores import PickScores
from tests.stages.alone import Alone, flat
from tests.stages.planted import GREEN, RED, Likes


def test_the_mean_over_the_frames(alone: Alone) -> None:
    stage = PickScores(specs={"preference_scorer": ModelSpec.of(Likes)})
    clip = alone.video("target", np.concatenate([flat(RED, 3), flat(GREEN, 1)]))
    own, other = (alone.process(stage, target_video=clip, target_caption=text) for text in ("red", "green"))
    assert (own["pick_score"], other["pick_score"]) == pytest.approx((15, 5), abs=0.3)
    assert alone.process(stage, target_video=clip) == {"pick_score": None}
    assert not PickScores().applies({})
