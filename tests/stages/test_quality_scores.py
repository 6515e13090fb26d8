"""`quality_scores`: the mean of what a scorer of one's own says of the frames."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.core.stage import ModelSpec
from ffpdata.stages.quality_scores import QualityScores
from tests.stages.alone import Alone, flat
from tests.stages.planted import Quality


def test_the_mean_over_the_frames(alone: Alone) -> None:
    stage = QualityScores(specs={"quality_scorer": ModelSpec.of(Quality)})
    clip = alone.video("target", np.concatenate([flat(255, 1), flat(0, 3)]))
    assert alone.process(stage, target_video=clip)["image_quality"] == pytest.approx(2, abs=0.05)
    assert not QualityScores().applies({})


def test_a_number_that_is_none_is_an_error(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quality, "score", lambda *_: np.array([np.nan]))
    stage = QualityScores(specs={"quality_scorer": ModelSpec.of(Quality)})
    with pytest.raises(ValueError, match="image_quality is nan: set the dtype of the role quality_scorer to float32"):
        alone.process(stage, target_video=alone.video("target", flat(9)))
