"""Scores out of vectors: arithmetic with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.metrics.frame_consistency import frame_consistency
from ffpdata.metrics.frame_similarity import first_frame_similarity, input_similarity
from ffpdata.metrics.learned import LEARNED
from ffpdata.metrics.text_alignment import frame_text, video_text
from ffpdata.stages._scores import MEASURED, SCORES

AXES = np.eye(3, dtype=np.float32)


def test_neighbours_that_point_apart_count_as_0() -> None:
    assert frame_consistency(np.stack([AXES[0], 5 * AXES[0], -AXES[0], -2 * AXES[0]])) == pytest.approx(2 / 3)
    assert frame_consistency(np.stack([AXES[0], AXES[0] + AXES[1]])) == pytest.approx(0.5**0.5)
    assert frame_consistency(AXES[:1]) is None
    still = np.repeat(np.random.default_rng(0).standard_normal((1, 1024)).astype(np.float32), 81, axis=0)
    assert frame_consistency(still) == pytest.approx(1, abs=1e-9)
    with pytest.raises(ValueError, match="no length, or is not finite"):
        frame_consistency(np.stack([AXES[0], 0 * AXES[0]]))


def test_texts_by_the_encoders_scale() -> None:
    frames = np.stack([AXES[0], -AXES[0], AXES[0] + AXES[1], AXES[0]])
    assert frame_text(frames, 4 * AXES[0], 100.0) == pytest.approx(25 * (1 + 0.5**0.5))
    assert video_text(AXES[0] + AXES[1], AXES[0]) == pytest.approx(100 * 0.5**0.5)


def test_pictures_frame_by_frame() -> None:
    assert input_similarity(AXES, 3 * AXES) == pytest.approx(1)
    assert input_similarity(AXES, AXES[::-1]) == pytest.approx(1 / 3)
    assert input_similarity(AXES, AXES[:2]) is None
    assert first_frame_similarity(AXES, AXES[0]) == (pytest.approx(1 / 3), pytest.approx(0))
    assert first_frame_similarity(AXES[:1], AXES[0]) == (1, None)


def test_every_score_is_described_once() -> None:
    described = {score.name: score.role for score in LEARNED}
    assert len(described) == len(LEARNED)
    assert {name: role for role, (_, names) in MEASURED.items() for name in names}.items() <= described.items()
    assert set(described) - set(SCORES) == {"judge_score", "judge_follows", "judge_quality", "judge_unedited"}
