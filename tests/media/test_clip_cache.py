import os

import numpy as np
import pytest

from ffpdata.core.errors import FfpdataError
from ffpdata.media import clip_cache
from ffpdata.media.codec import read_masks, read_video, write_masks, write_video


@pytest.fixture(autouse=True)
def nothing_at_hand():
    yield
    clip_cache.start_item("")


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), np.uint8), 16)
    return path


@pytest.fixture
def masks(tmp_path):
    path = tmp_path / "masks.mp4"
    write_masks(path, np.random.default_rng(1).random((5, 32, 48)) > 0.5, 16)
    return path


def test_what_is_seen_is_what_is_read(clip, masks):
    for item in ("", "a"):
        clip_cache.start_item(item)
        for _ in range(2):
            assert np.array_equal(clip_cache.cached_video(clip), read_video(clip))
            assert np.array_equal(clip_cache.cached_masks(masks), read_masks(masks))


def test_without_an_item_nothing_is_kept(clip):
    assert clip_cache.cached_video(clip) is not clip_cache.cached_video(clip)
    assert clip_cache.cached_gb() == 0


def test_an_item_is_decoded_once_also_in_what_it_was_fanned_out_into(clip, masks):
    clip_cache.start_item("a")
    video, outline = clip_cache.cached_video(clip), clip_cache.cached_masks(masks)
    clip_cache.start_item("a")
    assert clip_cache.cached_video(clip) is video
    clip_cache.start_item("a/removal")
    assert clip_cache.cached_video(clip) is video
    assert clip_cache.cached_masks(masks) is outline
    assert clip_cache.cached_gb() == (video.nbytes + outline.nbytes) / 1e9


@pytest.mark.parametrize("other", ["b", "ab", "a/swap", "a", ""])
def test_at_another_item_all_is_dropped(clip, other):
    clip_cache.start_item("a/removal")
    video = clip_cache.cached_video(clip)
    clip_cache.start_item(other)
    assert clip_cache.cached_gb() == 0
    assert clip_cache.cached_video(clip) is not video


def test_what_others_see_too_cannot_be_written_to(clip):
    for item in ("", "a"):  # whichever runner it is, a stage that writes there fails
        clip_cache.start_item(item)
        with pytest.raises(ValueError, match="read-only"):
            clip_cache.cached_video(clip)[0] = 0
    read_video(clip)[0] = 0  # one's own


def test_a_file_that_was_replaced_is_decoded_anew(clip):
    clip_cache.start_item("a")
    before = clip_cache.cached_video(clip)
    write_video(clip, np.full((5, 32, 48, 3), 200, np.uint8), 16)
    os.utime(clip, ns=(1, 1))  # a clock of coarse steps
    assert clip_cache.cached_video(clip).mean() != before.mean()


def test_a_file_that_is_not_there_is_named(tmp_path):
    clip_cache.start_item("a")
    with pytest.raises(FfpdataError, match=r"gone\.mp4"):
        clip_cache.cached_video(tmp_path / "gone.mp4")
