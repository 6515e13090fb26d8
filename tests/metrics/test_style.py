"""The colours of a stylized clip against those of its style image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ffpdata.metrics.style import style_agreement


def clip(seed: int, tint: tuple[float, float, float], frames: int = 5) -> np.ndarray:
    """Soft blobs of one tint that drift, uint8 (T, 48, 64, 3)."""
    noise = np.random.default_rng(seed).normal(0, 1, (48, 64 + frames)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 4)
    soft = (soft - soft.min()) / np.ptp(soft)
    frame = soft[..., None] * np.array(tint) * 230
    return np.stack([frame[:, t : t + 64] for t in range(frames)]).astype(np.uint8)


GREY, RED, BLUE = (0.6, 0.6, 0.6), (1.0, 0.3, 0.1), (0.1, 0.3, 1.0)


def test_the_way_to_the_style_image_is_told() -> None:
    source, reference = clip(1, GREY), clip(2, RED)[0]
    assert style_agreement(source, clip(3, RED), reference) > 0.8
    assert style_agreement(source, source, reference) == pytest.approx(0, abs=1e-6)
    half = style_agreement(source, (clip(1, GREY) // 2 + clip(1, RED) // 2), reference)
    assert 0.3 < half < 0.8


def test_another_images_colours_are_farther_than_the_sources() -> None:
    assert style_agreement(clip(1, GREY), clip(1, BLUE), clip(2, RED)[0]) < 0


def test_where_there_is_nothing_to_take_over_nothing_is_said() -> None:
    assert style_agreement(clip(1, RED), clip(3, RED), clip(2, RED)[0]) is None
