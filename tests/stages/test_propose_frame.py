"""`propose_frame`: which edits of a first frame a clip gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError
from ffpdata.core.stage import Reject
from ffpdata.stages.propose_frame import ProposeFrame
from tests.stages.alone import HEIGHT, WIDTH, Alone, flat

CLIP = {"width": WIDTH, "height": HEIGHT, "frames": 5}


def clip(alone: Alone, styles: int) -> dict[str, Any]:
    names = [f"style{n}.png" for n in range(styles)]
    for n, name in enumerate(names):
        alone.image(name.removesuffix(".png"), np.full((256, 320, 3), 40 + 90 * n, np.uint8))
    given = {"style_ids": [str(n) * 16 for n in range(styles)], "style_paths": names, "styles_offered": True}
    row = {"source_video": alone.video("in", flat(130)), "sha": "ff" * 8, "root": str(alone.folder)}
    return row | (given if styles else {})


def test_local_edits_and_the_style_that_suits(alone: Alone) -> None:
    edits = [{"task": "swap", "variant": "bbox"}, {"task": "addition"}, {"task": "stylization"}]
    stage = ProposeFrame(clip=CLIP, edits=edits, most=1)
    children = alone.expand(stage, **clip(alone, styles=3))
    assert [(child.suffix, child.columns["task"]) for child in children] == [
        ("swap/bbox", "swap"),
        ("addition/whole", "addition"),
        ("style/11111111", "stylization"),
    ]
    assert children[2].columns["style_id"] == "1" * 16, "the image that is as light as the clip"
    assert children[0].columns["seed"] != children[1].columns["seed"]
    other = alone.expand(ProposeFrame(clip=CLIP, edits=edits, most=1, seed=1), **clip(alone, styles=3))
    assert other[0].columns["seed"] == children[0].columns["seed"] + 1


def test_without_images_there_is_no_stylization(alone: Alone) -> None:
    row = clip(alone, styles=0)
    assert [child.suffix for child in alone.expand(ProposeFrame(clip=CLIP), **row)] == ["modification/mask"]
    with pytest.raises(Reject, match="no style reference"):
        alone.expand(ProposeFrame(clip=CLIP, edits=[{"task": "stylization"}]), **row)


def test_an_edit_that_no_first_frame_can_begin_is_refused() -> None:
    with pytest.raises(ConfigError, match="no edit of a first frame 'removal'"):
        ProposeFrame(edits=[{"task": "removal"}])
