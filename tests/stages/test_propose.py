"""`propose`: one item per edit, with a seed that follows from the clip and the edit."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ffpdata.stages.propose import EditPlan, Propose, ProposeSettings
from tests.stages.alone import Alone


def plan(*edits: str, seed: int = 0) -> Propose:
    made = [EditPlan(task=task, variant=variant) for task, _, variant in (edit.partition("/") for edit in edits)]
    return Propose(ProposeSettings(edits=made, seed=seed))


def test_the_paper_s_edits_are_the_default(alone: Alone) -> None:
    children = alone.expand(Propose(), source_video="a.mp4")
    assert [child.suffix for child in children] == ["removal/bbox", "swap/mask"]
    assert [(c.columns["task"], c.columns["variant"]) for c in children] == [("removal", "bbox"), ("swap", "mask")]
    assert {child.source_id for child in children} == {""}


def test_edits_are_a_setting_and_keep_their_order(alone: Alone) -> None:
    children = alone.expand(plan("swap/hull", "removal/mask", "removal/bbox"), source_video="a.mp4")
    assert [child.suffix for child in children] == ["swap/hull", "removal/mask", "removal/bbox"]


def test_seeds_differ_by_clip_and_edit_and_agree_between_runs(alone: Alone) -> None:
    def seeds(clip: str, **more: int) -> list[int]:
        made = alone.expand(plan("removal/bbox", "swap/mask", **more), source_video=clip)
        return [child.columns["seed"] for child in made]

    assert seeds("a.mp4") == seeds("a.mp4")
    assert len({*seeds("a.mp4"), *seeds("b.mp4")}) == 4
    assert [seed - 5 for seed in seeds("a.mp4", seed=5)] == seeds("a.mp4")
    assert all(0 <= seed < 2**31 for seed in seeds("a.mp4", seed=2**31 - 1)), "the sum stays a seed"


def test_an_edit_has_a_seed_whatever_else_is_made(alone: Alone) -> None:
    [alone_made] = alone.expand(plan("swap/mask"), source_video="a.mp4")
    both = alone.expand(plan("removal/bbox", "swap/mask"), source_video="a.mp4")
    assert both[1].columns == alone_made.columns


@pytest.mark.parametrize("edit", ["remove/bbox", "removal/B box", "removal/"])
def test_a_wrong_edit_is_refused(edit: str) -> None:
    with pytest.raises(ValidationError):
        plan(edit)
