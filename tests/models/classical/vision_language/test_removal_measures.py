"""A removal is measured against what the clip shows at other times: good fills rank before bad ones."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from ffpdata.models.classical.vision_language.removal_measures import RemovalMeasures, measure_removal
from ffpdata.models.classical.vision_language.scoring import grade, removal_faults
from tests.models.classical.toys import Clip, Scene, scene

RNG = np.random.default_rng(4)


def blurred(s: Scene) -> Clip:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 12) for frame in s.background])


FILLS: dict[str, Callable[[Scene], Clip]] = {
    "perfect": lambda s: s.inside(s.background),
    "unremoved": lambda s: s.source,
    "ghost": lambda s: s.inside((0.7 * s.background + 0.3 * s.source).astype(np.uint8)),
    "blob": lambda s: s.inside(blurred(s)),
    "flicker": lambda s: s.inside(
        np.clip(s.background + RNG.integers(-16, 17, (len(s.source), 1, 1, 1)), 0, 255).astype(np.uint8)
    ),
    "other": lambda s: s.inside(np.ascontiguousarray(s.source[..., ::-1]), margin=0),
}


@pytest.fixture(scope="module", params=[0.0, 2.5], ids=["still", "pan"])
def shot(request: pytest.FixtureRequest) -> Scene:
    return scene(pan=request.param)


@pytest.fixture(scope="module")
def measured(shot: Scene) -> dict[str, RemovalMeasures]:
    found = {name: measure_removal(shot.source, make(shot), shot.masks) for name, make in FILLS.items()}
    assert None not in found.values()
    return {name: value for name, value in found.items() if value is not None}


def score(found: RemovalMeasures) -> float:
    return grade(removal_faults(found, {}), "nothing is wrong").score


def test_a_perfect_fill_is_perfect(measured: dict[str, RemovalMeasures]) -> None:
    found = measured["perfect"]
    assert found.left < 0.05
    assert found.wrong < 0.05
    assert found.known > 0.8
    assert score(found) >= 9


def test_an_untouched_clip_scores_nothing(measured: dict[str, RemovalMeasures]) -> None:
    found = measured["unremoved"]
    assert found.left > 0.95
    assert found.wrong > 0.95
    assert score(found) == 0


def test_a_ghost_is_measured_by_its_strength(measured: dict[str, RemovalMeasures]) -> None:
    assert measured["ghost"].left == pytest.approx(0.3, abs=0.06)


def test_each_fault_is_seen_for_what_it_is(measured: dict[str, RemovalMeasures]) -> None:
    assert measured["blob"].soft > 0.5 > measured["perfect"].soft
    assert measured["blob"].left < 0.2
    assert measured["flicker"].flicker > 4
    assert measured["perfect"].flicker < 1
    assert measured["other"].wrong > 0.5


def test_every_bad_fill_ranks_behind_the_good_one(measured: dict[str, RemovalMeasures]) -> None:
    scores = {name: score(found) for name, found in measured.items()}
    assert all(value < 5 for name, value in scores.items() if name != "perfect"), scores


def test_a_change_far_from_the_object_is_spill(shot: Scene) -> None:
    target = FILLS["perfect"](shot)
    target[:, :40] = 255 - target[:, :40]
    found = measure_removal(shot.source, target, shot.masks)
    assert found is not None
    assert found.spill > 5


def test_a_background_that_is_never_seen_is_unknown() -> None:
    shot = scene(frames=9)
    masks = np.zeros_like(shot.masks)
    masks[:, 60:130, 100:200] = True
    found = measure_removal(shot.source, shot.source, masks)
    assert found is not None
    assert found.known == 0
    assert "too little" in grade({"unknown": removal_faults(found, {})["unknown"]}, "").reason.lower()


def test_nothing_to_judge() -> None:
    shot = scene(frames=3)
    assert measure_removal(shot.source, shot.source, np.zeros_like(shot.masks)) is None
    assert measure_removal(shot.source, shot.source[:2], shot.masks) is None
    assert measure_removal(shot.source, shot.source, shot.masks[:, ::2]) is None
    assert measure_removal(shot.source[:1], shot.source[:1], shot.masks[:1]) is None
