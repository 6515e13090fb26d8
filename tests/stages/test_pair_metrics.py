"""What is measured of an output and its source without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffpdata.stages.pair_metrics import BASIC, PairMetrics, resized
from tests.evaluation.editverse_folder import edited, scene
from tests.stages.alone import Alone


def test_an_edit_changes_and_a_copy_does_not(tmp_path: Path) -> None:
    alone = Alone(tmp_path)
    source = alone.video("source", scene(1))
    same = alone.process(PairMetrics(), source_video=source, target_video=source)
    other = alone.process(PairMetrics(), source_video=source, target_video=alone.video("target", edited(1)))
    assert same["compared"]
    assert (same["change"], same["colour_drift"], same["flicker"]) == (0, 0, 0)
    assert other["change"] > 5
    assert set(BASIC) < set(other)
    assert all(np.isfinite(value) for value in other.values())


def test_sizes_may_differ_and_shapes_may_not(tmp_path: Path) -> None:
    alone = Alone(tmp_path)
    source = alone.video("source", scene(1, size=(96, 128)))
    small = alone.process(PairMetrics(), source_video=source, target_video=alone.video("target", scene(1)))
    assert small["compared"]
    tall = alone.video("tall", scene(1, size=(64, 48)))
    assert alone.process(PairMetrics(), source_video=source, target_video=tall) == {"compared": False}
    short = alone.video("short", scene(1, frames=3))
    assert alone.process(PairMetrics(), source_video=source, target_video=short) == {"compared": False}
    assert resized(scene(1), 32, 24).shape == (5, 24, 32, 3)


def test_an_item_without_a_source_has_a_row(tmp_path: Path) -> None:
    alone = Alone(tmp_path)
    assert alone.process(PairMetrics(), target_video=alone.video("target", scene(1))) == {"compared": False}
