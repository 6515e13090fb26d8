"""`draft_style`: the same stylization, small."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.media.codec import read_video, write_gray
from ffpdata.stages.draft_style import DraftStyle, DraftStyleSettings
from tests.stages.alone import FPS, HEIGHT, WIDTH, Alone, Inverting, asked, flat, spec


def test_a_draft_sees_everything_at_its_size(alone: Alone) -> None:
    stage = DraftStyle(DraftStyleSettings(width=32, height=24), {"draft_stylizer": spec(Inverting)})
    depth = alone.folder / "depth.mp4"
    write_gray(depth, np.full((5, HEIGHT, WIDTH), 255, np.uint8), FPS)
    files = {"source_video": alone.video("in", flat(40)), "reference_image": alone.image("style", flat(200)[0])}
    row = {"style_caption": "bright", "seed": 3, "task": "stylization", "fps": FPS, "depth_video": depth}
    made = alone.process(stage, **files, **row)
    frames = read_video(made["draft_video"])
    assert frames.shape == (5, 24, 32, 3)
    assert frames.mean() == pytest.approx(200, abs=3), "depth 1 everywhere: the reference alone"
    [question] = asked(stage, "draft_stylizer")
    assert (question["prompt"], question["seed"]) == ("bright", 3)
    assert question["depth"].shape == (5, 24, 32)


def test_without_a_draft_role_items_pass() -> None:
    assert DraftStyle(None, {"stylizer": spec(Inverting)}).idle
    assert DraftStyle(None, {"draft_stylizer": spec(Inverting)}).applies({"task": "stylization"})
