"""Loose regions: what they hold, how far they go, and that they are whole cells."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.models.loraedit.region import cells, difference, loosen, of_clip, spread


def masks() -> np.ndarray:
    """A disc of radius 10 that moves, and a speck."""
    y, x = np.mgrid[:96, :128]
    found = np.stack([(y - 40) ** 2 + (x - 30 - 8 * t) ** 2 <= 100 for t in range(5)])
    found[:, 80:84, 100:104] = True
    return found


def test_a_box_is_grown_by_a_tenth_and_a_speck_does_not_count() -> None:
    found = loosen(masks(), "box")
    rows, columns = np.nonzero(cells(found)[0])
    # 21 pixels and 3 on each side: rows 27 to 53, columns 17 to 43, of which whole cells.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 6, 2, 5)
    assert cells(found)[0].sum() == 16
    assert not found[:, 72:, 96:].any()
    assert np.array_equal(found, spread(cells(found)))


@pytest.mark.parametrize("how", ["noise", "none"])
def test_the_mask_is_inside(how: str) -> None:
    found = loosen(masks(), how, seed=3)
    assert (found | ~masks()).all()
    assert np.array_equal(found, loosen(masks(), how, seed=3))


def test_noise_is_near_and_of_its_seed() -> None:
    tight, noised, other = (loosen(masks(), how, seed=seed) for how, seed in (("none", 0), ("noise", 1), ("noise", 2)))
    assert tight.sum() < noised.sum() < 3 * tight.sum()
    assert not np.array_equal(noised, other)
    assert not np.array_equal(cells(noised)[0, :, :4], cells(noised)[1, :, 1:5])


def test_empty_masks_stay_empty() -> None:
    empty = np.zeros((5, 64, 64), bool)
    assert not any(loosen(empty, how).any() for how in ("box", "noise", "none"))


def test_nothing_of_the_first_frame_is_drawn_anew() -> None:
    found = of_clip(loosen(masks(), "box"))
    assert not found[0].any()
    assert np.array_equal(found[1:], loosen(masks(), "box")[1:])


def test_what_differs_is_found_through_a_coders_noise() -> None:
    first = np.full((64, 96, 3), 100, np.uint8)
    edited = (first + np.random.default_rng(0).integers(-4, 5, first.shape)).astype(np.uint8)
    edited[16:32, 40:64, 1] = 180
    found = difference(first, edited)
    assert found.shape == (1, 64, 96)
    assert found[0, 18:30, 42:62].all()
    assert not found[0, :12].any()


def test_a_size_off_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        cells(np.zeros((5, 60, 64), bool))
