"""`animate`: a still becomes a clip, with a seed of its own."""

from __future__ import annotations

import pytest

from ffpdata.core.keys import digest
from ffpdata.media.codec import read_video
from ffpdata.stages.animate import Animate
from tests.stages.alone import FPS, HEIGHT, WIDTH, Alone, Inverting, asked, flat, spec


def test_animate_is_for_stills() -> None:
    stage = Animate(None, {"image_to_video": spec(Inverting)})
    assert stage.applies({"content_image": "a.png"})
    assert not stage.applies({"source_video": "a.mp4"})


def test_animate_asks_for_the_clip_s_length_with_the_still_s_own_seed(alone: Alone) -> None:
    stage = Animate(None, {"image_to_video": spec(Inverting)})
    values = {"cinematic_caption": "A slow dolly.", "frames": 9, "fps": FPS}
    paths = [alone.image(f"still{n}", flat(90)[0]) for n in (0, 0, 1)]
    for path in paths:
        made = alone.process(stage, content_image=path, **values)
    frames = read_video(made["source_video"])
    assert frames.shape == (9, HEIGHT, WIDTH, 3)
    assert frames[0].mean() == pytest.approx(90, abs=2)
    assert frames[-1].mean() < 2
    assert made["animate_facts"] == {"zoom": 1.0}
    first, again, other = asked(stage, "image_to_video")
    assert first == again == {"prompt": "A slow dolly.", "frames": 9, "seed": int(digest(str(paths[0]))[:7], 16)}
    assert other["seed"] != first["seed"]
