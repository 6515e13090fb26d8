"""The injector of defects: every kind damages what it says, the stages see it, and the tables are printed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.defect_kinds import HELD_OUT, KINDS, Example
from benchmarks.defect_report import fitted, report


@pytest.fixture(scope="module")
def pair() -> Example:
    """A ball that crosses a texture and was recoloured, 24 frames."""
    wide = np.random.default_rng(0).integers(60, 190, (12, 24, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    source = np.stack([wide[:, t : t + 128] for t in range(24)])
    masks = np.zeros(source.shape[:3], bool)
    for t in range(24):
        masks[t, 30:60, 20 + 2 * t : 50 + 2 * t] = True
    source[masks] = (200, 40, 40)
    target = source.copy()
    target[masks] = (40, 40, 200)
    columns = {
        "task": "modification",
        "object": "ball",
        "instruction": "Change the colour of the ball from red to blue.",
    }
    return Example(source, target, masks, masks, columns)


def test_at_least_sixteen_kinds_and_some_that_no_score_was_fitted_on() -> None:
    assert len(KINDS) >= 16
    assert HELD_OUT
    assert not KINDS.keys() & HELD_OUT.keys()


@pytest.mark.parametrize("name", sorted({*KINDS, *HELD_OUT} - {"wrong_style"}))
def test_a_kind_damages_the_pair_and_more_so_when_strong(pair: Example, name: str) -> None:
    weak, strong = ((KINDS | HELD_OUT)[name](pair, strength) for strength in (0, 1))
    assert weak is not None
    assert strong is not None
    for damaged in (weak, strong):
        assert damaged.source is pair.source, "the source stays"
        same = np.array_equal(damaged.target, pair.target) and damaged.columns == pair.columns
        assert not same or not np.array_equal(damaged.outline, pair.outline)
        assert damaged.target.shape == pair.target.shape
        assert damaged.target.dtype == np.uint8
    again = (KINDS | HELD_OUT)[name](pair, 1)
    assert np.array_equal(again.target, strong.target), "the same every time"


def test_a_stylization_has_the_kinds_that_need_no_outline(pair: Example) -> None:
    text = "Restyle the whole video as a blue picture."
    whole = Example(pair.source, pair.target, None, None, {"task": "stylization", "instruction": text})
    made = {name: kind(whole, 0) for name, kind in KINDS.items()}
    local = {"halo", "spill", "lost_outline", "lost_edit"}
    assert {name for name, damaged in made.items() if damaged is None} == {*local, "wrong_style"}
    with_style = replace(whole, reference=np.full((8, 8, 3), (200, 100, 20), np.uint8))
    looks = [KINDS["wrong_style"](with_style, strength).reference[0, 0].tolist() for strength in (0, 1)]
    assert looks == [[20, 200, 100], [235, 55, 155]]


def rows(count: int = 40) -> list[dict[str, object]]:
    draw = np.random.default_rng(1)
    found = []
    for n in range(count):
        shared = {
            "run": "r",
            "item_id": f"{n:04d}",
            "track": "local",
            "task": "removal",
            "source_id": f"s{n % 10}",
            "said": {},
        }
        fine = {"noise": float(draw.normal(0, 0.2)), "ssim_outside": 0.99, "score": 0.9, "instruction_task": 1.0}
        found += [
            shared | {"kind": "clean", "strength": 0, "numbers": fine},
            shared | {"kind": "noise", "strength": 1, "numbers": fine | {"noise": 9.0, "ssim_outside": 0.5}},
            shared | {"kind": "strobe", "strength": 1, "numbers": fine | {"noise": 8.0, "ssim_outside": 0.4}},
        ]
    return found


def test_the_report_says_what_was_caught(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.jsonl"
    numbers.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    assert report(rows()) == 0
    said = capsys.readouterr().out
    assert "removal: 40 good, 80 damaged, 10 sources" in said
    assert re.search(r"noise +40 of 40", said)
    assert re.search(r"strobe \* +40 of 40", said)
    assert "AUC of the score on sources left out 1.000" in said
    model = fitted(rows())
    assert "injected defects" in model.about
    assert model.same["text_removal"] == "removal"
    assert model.tasks["removal"].fitted["pairs"] == 80, "held-out kinds are not fitted on"


def test_good_pairs_that_are_rejected_break_a_bound(capsys: pytest.CaptureFixture[str]) -> None:
    spoilt = [r | {"said": {"measure": "too_noisy"}} if r["kind"] == "clean" else r for r in rows()]
    assert report(spoilt) == 1
    assert "good ones rejected 100.0%" in capsys.readouterr().out
