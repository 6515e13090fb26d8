"""The edited first frame that an input names: its size, its shape, and that it is an edit."""

from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.stage import Reject
from ffpdata.media.codec import read_image, write_image
from ffpdata.stages.first_frame import FirstFrame, FirstFrameSettings
from tests.stages.alone import Alone

GEOMETRY = {"width": 320, "height": 192, "source_width": 640, "source_height": 384}


def stage() -> FirstFrame:
    return FirstFrame(FirstFrameSettings(clip={"width": 320, "height": 192, "frames": 5}))


def row(alone: Alone, image: np.ndarray | None, **values: object) -> dict[str, object]:
    clip = np.full((5, 192, 320, 3), 90, np.uint8)
    found = {"source_video": alone.video("source", clip), **GEOMETRY, "root": str(alone.folder), **values}
    if image is not None:
        write_image(alone.folder / "edited.png", image)
        found |= {"edited_first_frame_paths": ["edited.png"], "edited_first_frame_ids": ["ab" * 16]}
    return found


def test_it_is_brought_to_the_clips_size(tmp_path: Path) -> None:
    alone = Alone(tmp_path)
    image = np.full((384, 640, 3), (200, 40, 40), np.uint8)
    found = alone.process(stage(), **row(alone, image, given_caption="a red wall"))
    made = read_image(found["edited_first_frame"])
    assert made.shape == (192, 320, 3)
    assert np.abs(made.astype(int) - (200, 40, 40)).max() <= 1
    assert found["target_caption"] == "a red wall"
    assert found["first_frame_change"] == 1.0
    assert found["seed"] == int(alone.process(stage(), **row(alone, image))["seed"])


def test_what_is_no_edit_of_this_frame_is_rejected(tmp_path: Path) -> None:
    alone = Alone(tmp_path)
    with pytest.raises(Reject, match="names 0 edited first frames: name one image"):
        alone.process(stage(), **row(alone, None))
    with pytest.raises(Reject, match=r"is 512 x 384, the source 640 x 384: aspect ratios differ by 20%"):
        alone.process(stage(), **row(alone, np.zeros((384, 512, 3), np.uint8)))
    noise = np.random.default_rng(0).integers(-9, 10, (384, 640, 3))  # as another coder's
    with pytest.raises(Reject, match=r"0\.00% of it differ .* the limit is 0\.05%: there is no edit") as same:
        alone.process(stage(), **row(alone, (90 + noise).astype(np.uint8)))
    assert same.value.reason == "first_frame_unchanged"
    small = (90 + noise).astype(np.uint8)
    small[100:120, 100:130] = 160
    assert 0.0005 < alone.process(stage(), **row(alone, small))["first_frame_change"] < 0.01
