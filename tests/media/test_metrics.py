"""Measures of pairs whose numbers are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.media import metrics


def flat(*levels: int, side: int = 32) -> np.ndarray:
    return np.stack([np.full((side, side, 3), level, np.uint8) for level in levels])


def test_reduced_keeps_every_nth_frame_and_type() -> None:
    frames = flat(*range(9), side=720)
    small = metrics.subsample(frames, step=4)
    assert small.shape == (3, 360, 360, 3)
    assert small[:, 0, 0, 0].tolist() == [0, 4, 8]
    masks = np.zeros((5, 720, 1440), bool)
    masks[:, :360] = True
    assert metrics.subsample(masks, step=2).dtype == np.bool_
    assert metrics.subsample(masks, step=2).mean() == 0.5
    assert metrics.subsample(flat(7), step=1).shape == (1, 32, 32, 3), "nothing is enlarged"


def test_psnr_of_a_known_error() -> None:
    assert metrics.psnr(flat(100), flat(110)) == pytest.approx(10 * np.log10(255**2 / 100))
    assert metrics.psnr(flat(5), flat(5)) == metrics.PSNR_MAX
    where = np.zeros((1, 32, 32), bool)
    assert metrics.psnr(flat(0), flat(255), where) == metrics.PSNR_MAX, "an empty region has no error"
    changed = flat(100)
    changed[:, :, :16] = 120
    where[:, :, :16] = True
    assert metrics.psnr(flat(100), changed, where) == pytest.approx(10 * np.log10(255**2 / 400))
    assert metrics.psnr(flat(100), changed, ~where) == metrics.PSNR_MAX


def test_mean_change_is_over_the_region_alone() -> None:
    changed = flat(100, 100)
    changed[:, :8] = 140
    where = np.zeros((2, 32, 32), bool)
    where[:, :8] = True
    assert metrics.mean_change(flat(100, 100), changed) == 10
    assert metrics.mean_change(flat(100, 100), changed, where) == 40
    assert metrics.mean_change(flat(100, 100), changed, ~where) == 0
    assert metrics.mean_change(flat(0), flat(255), np.zeros((1, 32, 32), bool)) == 0


def test_colour_drift_is_a_distance_of_means() -> None:
    assert metrics.colour_drift(flat(0), flat(255)) == pytest.approx(100, abs=0.1), "black to white in Lab"
    noisy = np.random.default_rng(0).permuted(np.repeat([90, 110], 32 * 32 * 3 // 2).astype(np.uint8))
    assert metrics.colour_drift(flat(100), noisy.reshape(1, 32, 32, 3)) < 0.5, "noise has the same mean"
    assert metrics.colour_drift(flat(0), flat(255), np.zeros((1, 32, 32), bool)) == 0


def test_structure_follows_the_edges_and_not_the_light() -> None:
    scene = flat(60)
    scene[:, 8:24, 8:24] = 200
    assert metrics.structure(scene, (scene // 2).astype(np.uint8)) == pytest.approx(1, abs=0.01)
    other = flat(60)
    other[:, 2:10, 20:30] = 200
    assert metrics.structure(scene, other) < 0.5
    assert metrics.structure(scene, flat(60)) == 0, "a plain picture has no edges to compare"


def test_motion_is_the_change_between_neighbours() -> None:
    assert metrics.motion(flat(10, 10, 10)) == 0
    assert metrics.motion(flat(10, 14, 10, 14)) == 4
    assert metrics.motion(flat(10)) == 0
