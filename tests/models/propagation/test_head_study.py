"""Clips vote on the heads of a base; what a clip showed is kept; the picture."""

from __future__ import annotations

import io

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError
from ffpdata.models.propagation.head_study import KEPT, StudyOptions, StudyPair, study, vote

pytest.importorskip("diffsynth", reason="diffsynth is not installed")


def pairs_of(pair, count):
    source, target, first, text = pair
    return [
        StudyPair(
            f"pair{number}", np.roll(source, number, 2), np.roll(target, number, 2), np.roll(first, number, 1), text
        )
        for number in range(count)
    ]


def test_clips_vote_and_a_study_goes_on_where_it_stopped(spec, pair, tmp_path):
    said: list[str] = []
    voting = pairs_of(pair, 3)
    whole = study(spec(), voting, tmp_path / "a", StudyOptions(epsilon=0.02))
    assert (len(whole.temporal), len(whole.temporal[0]), len(whole.margins)) == (2, 4, 3)
    assert whole.clips == ("pair0", "pair1", "pair2")
    assert (whole.width, whole.height, whole.frames) == (64, 64, 9)
    counted = (np.array(whole.margins) > 0).sum(0)
    assert np.array_equal(whole.votes, counted)
    assert np.array_equal(whole.temporal, 2 * counted > 3)
    study(spec(), voting[:2], tmp_path / "b", StudyOptions(epsilon=0.02))  # as if killed after two
    resumed = study(spec(), voting, tmp_path / "b", StudyOptions(epsilon=0.02), said.append)
    assert said == ["pair0: kept", "pair1: kept", "pair2: looked at"]
    assert resumed.text() == whole.text()
    study(spec(), voting[:1], tmp_path / "b", StudyOptions(epsilon=0.5), said.append)
    assert said[-1] == "pair0: looked at", "another epsilon, another answer"
    assert len(list((tmp_path / "b" / KEPT).iterdir())) == 4


def test_what_cannot_vote(spec, pair, tmp_path):
    source, target, first, text = pair
    with pytest.raises(ConfigError, match="no pair"):
        study(spec(), [], tmp_path, StudyOptions())
    short = StudyPair("short", source[:5], target[:5], first, text)
    with pytest.raises(ConfigError, match="several sizes"):
        study(spec(), [*pairs_of(pair, 1), short], tmp_path, StudyOptions(epsilon=0.02))
    with pytest.raises(ConfigError, match="timesteps"):
        StudyOptions(timesteps=(0,))
    with pytest.raises(ConfigError, match="epsilon"):
        StudyOptions(epsilon=1.5)


def test_the_picture_shows_layers_across_and_heads_down():
    from PIL import Image

    from ffpdata.models.propagation.head_picture import CELL, LEFT, SPATIAL, TEMPORAL, TOP, head_picture

    apart = np.stack([np.stack([np.eye(3), 1 - np.eye(3)])] * 3).astype(np.float32)
    heads = vote([apart] * 2, ["a", "b"], (9, 64, 64), base="b", options=StudyOptions(), model="tiny")
    image = np.asarray(Image.open(io.BytesIO(head_picture(heads))))
    corners = [tuple(image[TOP + CELL * head + 2, LEFT + CELL * layer + 2]) for layer in range(3) for head in range(2)]
    assert corners == [SPATIAL, TEMPORAL] * 3
