"""`stylize`: what the stylizer is given, in which unit."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.media.codec import read_video
from ffpdata.stages.depth import Depth
from ffpdata.stages.stylize import Stylize
from tests.stages.alone import FPS, WIDTH, Alone, Inverting, Lights, asked, flat, spec, square


def test_stylize_gives_the_model_depth_in_its_unit_and_the_question(alone: Alone) -> None:
    stage = Stylize(None, {"stylizer": spec(Inverting)})
    depth = np.zeros(square().shape, np.float32)
    depth[:, :, WIDTH // 2 :] = 1
    grey = alone.process(
        Depth(None, {"depth_estimator": spec(Lights)}),
        source_video=alone.video("depth", np.repeat((depth * 255).astype(np.uint8)[..., None], 3, 3)),
        fps=FPS,
    )["depth_video"]
    made = alone.process(
        stage,
        source_video=alone.video("in", flat(200)),
        depth_video=grey,
        reference_image=alone.image("reference", flat(40)[0]),
        style_caption="In flat tones.",
        seed=7,
        fps=FPS,
    )
    [call] = asked(stage, "stylizer")
    assert (call["prompt"], call["seed"]) == ("In flat tones.", 7)
    assert call["depth"].dtype == np.float32
    assert (call["depth"].min(), call["depth"].max()) == (0, 1)
    target = read_video(made["target_video"]).astype(int)
    assert target[:, :, : WIDTH // 2 - 4].mean() == pytest.approx(200, abs=2)
    assert target[:, :, WIDTH // 2 + 4 :].mean() == pytest.approx(40, abs=2)
    assert made["edit_facts"] == {"weight": 0.5}
