"""Where a close-up looks: the mask, at full size, in neighbouring frames."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.models.vlm.closeup import LEAST_SIDE, find_runs
from ffpdata.models.vlm.settings import Closeup


def crossing(frames: int = 81, height: int = 720, width: int = 1280, side: int = 160) -> np.ndarray:
    """Masks of a square that crosses the picture from its left edge to its right one."""
    masks = np.zeros((frames, height, width), bool)
    for number, mask in enumerate(masks):
        left = round(number * (width - side) / (frames - 1))
        mask[height // 3 : height // 3 + side, left : left + side] = True
    return masks


def test_the_first_the_middle_and_the_last_frame_are_shown_with_their_neighbours() -> None:
    masks = crossing()
    runs = find_runs(masks, Closeup(), 28)
    assert [run.numbers for run in runs] == [(0, 1, 2, 3), (38, 39, 40, 41), (77, 78, 79, 80)]
    assert len({(x1 - x0, y1 - y0) for x0, y0, x1, y1 in (run.box for run in runs)}) == 1, "one size for all"
    for run in runs:
        x0, y0, x1, y1 = run.box
        inside = np.zeros(masks.shape[1:], bool)
        inside[y0:y1, x0:x1] = True
        for number in run.numbers:
            assert not (masks[number] & ~inside).any(), "the whole mask"
        assert (x1 - x0) % 28 == (y1 - y0) % 28 == 0, "no patch is cut, so nothing is scaled"
        assert 0 <= x0 < x1 <= 1280
        assert 0 <= y0 < y1 <= 720


def test_an_object_that_comes_late_and_leaves_early_is_looked_at_while_it_is_there() -> None:
    masks = crossing(21, 240, 320, 40)
    masks[:, :40, :40] = False
    masks[:8] = masks[15:] = False
    runs = find_runs(masks, Closeup(runs=3, frames=2), 28)
    assert [run.numbers for run in runs] == [(7, 8), (11, 12), (14, 15)]
    assert find_runs(np.zeros((9, 48, 64), bool), Closeup(), 28) == [], "nothing to look at"


@pytest.mark.parametrize(("size", "side"), [((720, 1280), 224), ((100, 150), 84), ((20, 20), 20)])
def test_a_small_object_is_shown_with_its_surroundings(size: tuple[int, int], side: int) -> None:
    masks = np.zeros((5, *size), bool)
    masks[:, 10:14, 10:14] = True
    [(x0, y0, _, y1)] = {run.box for run in find_runs(masks, Closeup(frames=5), 28)}
    assert y1 - y0 == side <= LEAST_SIDE
    assert (x0, y0) == (0, 0), "moved into the picture"


@pytest.mark.parametrize(("frames", "runs"), [(1, 1), (3, 1), (5, 2)])
def test_a_short_clip_has_fewer_runs(frames: int, runs: int) -> None:
    masks = np.ones((frames, 48, 64), bool)
    found = find_runs(masks, Closeup(), 28)
    assert len(found) == runs
    assert all(len(run.numbers) == min(4, frames) for run in found)
