"""Faults into scores and reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ffpdata.models.classical.vision_language.change_measures import GlobalChange, LocalChange
from ffpdata.models.classical.vision_language.removal_measures import RemovalMeasures
from ffpdata.models.classical.vision_language.scoring import (
    Fault,
    grade,
    modification_faults,
    ramp,
    removal_faults,
    style_faults,
    swap_faults,
)

CLEAN = RemovalMeasures(left=0.0, wrong=0.0, known=1.0)
RED = LocalChange(change=40, part=0.9, structure=0.9, before=("blue",), after=("red",))
STYLED = GlobalChange(change=30, structure=0.7, unsteady=1, approach=0.6)


def test_ramps_rise_and_fall() -> None:
    assert [ramp(x, 1, 3) for x in (0, 1, 2, 3, 9)] == [0, 0, 0.5, 1, 1]
    assert [ramp(x, 3, 1) for x in (9, 3, 2, 1, 0)] == [0, 0, 0.5, 1, 1]


def test_faults_multiply_and_the_worst_is_told_first() -> None:
    found = grade({"a": Fault(0.2, "a little"), "b": Fault(0.5, "much"), "c": Fault(0.01, "a trace")}, "fine")
    assert found.score == 4.0
    assert found.reason == "Much; a little."
    assert grade({}, "all is well") == grade({"c": Fault(0.0, "x")}, "all is well")
    assert grade({}, "all is well").reason == "All is well."


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"left": 0.4}, "left"),
        ({"wrong": 0.5}, "wrong"),
        ({"flicker": 6.0}, "flicker"),
        ({"soft": 0.8}, "soft"),
        ({"seam": 1.2}, "seam"),
        ({"shade": 0.3}, "shade"),
        ({"known": 0.1}, "unknown"),
        ({"spill": 9.0}, "spill"),
    ],
)
def test_each_measure_of_a_removal_counts(change: dict[str, float], fault: str) -> None:
    found = removal_faults(replace(CLEAN, **change), {})
    assert found[fault].weight > 0.2
    assert [name for name, one in found.items() if one.weight > 0] == [fault]


def test_what_others_measured_counts_too() -> None:
    assert removal_faults(CLEAN, {"unrevealed": 0.4})["unknown"].weight > 0.2
    assert removal_faults(CLEAN, {"psnr_outside": 22.0})["spill"].weight > 0.2
    assert removal_faults(CLEAN, {"unrevealed": None, "psnr_outside": "high"})["spill"].weight == 0


def test_a_modification_keeps_the_object_and_keeps_its_promise() -> None:
    assert grade(modification_faults(RED, {}, frozenset({"red"})), "fine").score == 10
    assert grade(modification_faults(RED, {}, frozenset({"green"})), "fine").score == pytest.approx(4.0)
    assert grade(modification_faults(replace(RED, structure=0.0), {}, frozenset()), "fine").score < 5
    assert grade(modification_faults(replace(RED, change=2), {}, frozenset()), "fine").score == 0
    assert grade(modification_faults(replace(RED, unsteady=9.0), {}, frozenset()), "fine").score == 0


def test_a_swap_replaces_the_object() -> None:
    assert grade(swap_faults(replace(RED, structure=0.1), {}), "fine").score == 10
    assert grade(swap_faults(RED, {}), "fine").score == 0


def test_a_stylization_changes_the_look_and_keeps_the_scene() -> None:
    assert grade(style_faults(STYLED, {}), "fine").score == 10
    assert grade(style_faults(replace(STYLED, change=3), {}), "fine").score == 0
    assert grade(style_faults(replace(STYLED, structure=0.05), {}), "fine").score == 0
    assert grade(style_faults(replace(STYLED, unsteady=12), {}), "fine").score < 5
    assert grade(style_faults(STYLED, {"flicker": 12.0}), "fine").score < 5
    assert grade(style_faults(replace(STYLED, approach=-0.5), {}), "fine").score == 6
