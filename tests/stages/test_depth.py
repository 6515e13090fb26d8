"""`depth`: depth as grey levels, and what its numbers are."""

from __future__ import annotations

import pytest

from ffpdata.media.codec import read_gray
from ffpdata.stages.depth import Depth
from tests.stages.alone import FPS, Alone, Lights, light_square, spec, square


def test_depth_becomes_grey_levels_and_says_what_they_are(alone: Alone) -> None:
    made = alone.process(
        Depth(None, {"depth_estimator": spec(Lights)}), source_video=alone.video("in", light_square()), fps=FPS
    )
    grey = read_gray(made["depth_video"]).astype(int)
    assert made["depth_kind"] == "relative"
    assert grey.shape == square().shape
    assert grey[:, 20:28, 20:28].mean() == pytest.approx(230, abs=3), "near is white"
    assert grey[:, :8].mean() == pytest.approx(20, abs=3)
