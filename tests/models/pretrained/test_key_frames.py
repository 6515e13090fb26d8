import numpy as np
import pytest

from ffpdata.models.classical.segmenter.pixel_evidence import Flows
from ffpdata.models.pretrained.key_frames import Outlines, key_frames, tie, unsure
from tests.models.classical.toys import texture


@pytest.mark.parametrize("count", [1, 2, 17, 33, 81, 161])
def test_key_frames_reach_from_the_first_to_the_last_frame(count):
    keys = key_frames(count)
    assert keys[0] == 0
    assert keys[-1] == count - 1
    assert keys == sorted(set(keys))
    assert max(np.diff(keys), default=0) <= 8


def test_a_short_clip_has_key_frames_as_dense_as_its_motion_needs():
    assert len(key_frames(17)) == 5
    assert len(key_frames(81)) == 11


@pytest.fixture(scope="module")
def flows():
    return Flows(np.stack([texture(96, 128, 0)] * 17))


def square(inside=1.0):
    plane = np.full((96, 128), -1, np.float32)
    plane[30:60, 40:80] = inside
    return plane


def test_between_key_frames_the_outline_is_carried(flows):
    masks = tie(Outlines({0: square(), 8: square(), 16: square()}), flows, 17) > 0
    assert np.array_equal(masks, np.stack([square() > 0] * 17))


def test_a_key_frame_that_is_unsure_is_outvoted_by_its_neighbours(flows):
    masks = tie(Outlines({0: square(), 8: square(-0.5), 16: square()}), flows, 17) > 0
    assert np.array_equal(masks[8], square() > 0)


def test_what_is_seen_in_no_key_frame_is_nowhere(flows):
    assert not (tie(Outlines({0: square(-1.0)}), flows, 17) > 0).any()


def test_how_unsure_an_outline_is():
    assert unsure(square(1.0)) == 0
    assert unsure(square(0.2)) == 1
    assert unsure(square(-1.0)) > 1000, "nothing is outlined at all"
