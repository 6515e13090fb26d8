"""Pseudo-depth: in range, steady, and the ground nearer than what stands above it."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.classical.depth_estimator import PseudoDepth, guided_filter
from tests.models.classical.toys import Clip, scene

SPEC = ModelSpec(backend="ffpdata.models.classical.depth_estimator:PseudoDepth")


def depth(frames: Clip) -> np.ndarray:
    return PseudoDepth(SPEC).depth(frames)


def test_near_is_one_and_below() -> None:
    found = depth(scene(frames=5).source)
    assert found.shape == (5, 192, 320)
    assert found.dtype == np.float32
    assert found.min() == 0
    assert found.max() == 1
    assert found[:, -40:].mean() > found[:, :40].mean() + 0.5
    assert PseudoDepth.kind == "pseudo"


def test_a_still_clip_has_a_still_depth() -> None:
    frames = np.repeat(scene(frames=2).source[:1], 6, axis=0)
    noisy = np.clip(frames + np.random.default_rng(0).normal(0, 3, frames.shape), 0, 255).astype(np.uint8)
    assert np.abs(np.diff(depth(noisy), axis=0)).max() < 0.02


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 3, 50, 3), (1, 96, 54, 3)])
@pytest.mark.parametrize("level", [0, 255])
def test_plain_and_tiny_pictures(shape: tuple[int, ...], level: int) -> None:
    found = depth(np.full(shape, level, np.uint8))
    assert found.shape == shape[:3]
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_the_guided_filter_smooths_but_keeps_the_edge() -> None:
    guide = np.zeros((40, 60), np.float32)
    guide[:, 30:] = 1
    values = guide + np.random.default_rng(0).normal(0, 0.2, guide.shape).astype(np.float32)
    smooth = guided_filter(guide, values, radius=6, epsilon=1e-3)
    assert smooth[:, :28].std() < 0.05
    assert smooth[:, 32:].mean() - smooth[:, :28].mean() > 0.9


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="no entry 'grund'; did you mean 'ground'"):
        PseudoDepth(SPEC.model_copy(update={"settings": {"grund": 1}}))
