"""`draft`: the same edit, small, by a role of its own; what its model turns away is told and decides nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffpdata.core.errors import Reject
from ffpdata.core.stage import ModelSpec
from ffpdata.media.codec import read_video
from ffpdata.models.protocols import Edit
from ffpdata.stages.draft import Draft, DraftSettings
from ffpdata.stages.synthesize import Synthesize
from tests.stages.alone import FPS, Alone, Inverting, asked, flat, spec, square

ROW = {"caption": "A dog.", "object": "dog", "seed": 7, "task": "removal", "fps": FPS}


class TurningAway(Inverting):
    """Makes removals, and none of these."""

    name, tasks = "turning_away", ("removal",)

    def edit(self, frames: np.ndarray, masks: np.ndarray, **question: Any) -> Edit:
        raise Reject("unrevealed", "0.4, at most 0.15", {"unrevealed": 0.4})


def draft(backend: type = Inverting, **settings: Any) -> Draft:
    return Draft(DraftSettings(**settings), {"draft_remover": ModelSpec.of(backend), "remover": spec(Inverting)})


def files(alone: Alone) -> dict[str, Any]:
    return {"source_video": alone.video("in", flat(40)), "condition_mask": alone.masks("mask", square())}


def test_a_draft_is_the_edit_at_its_size(alone: Alone) -> None:
    stage = draft(width=32, height=24)
    made = alone.process(stage, **files(alone), **ROW)
    frames = read_video(made["draft_video"]).astype(int)
    assert frames.shape == (5, 24, 32, 3)
    assert frames[:, 10:14, 10:14].mean() == pytest.approx(215, abs=6), "the region, at half the size"
    assert np.abs(frames[:, :, 22:] - 40).mean() < 3
    assert made["draft_facts"] == {"unrevealed": pytest.approx(square().mean())}
    [question] = asked(stage, "draft_remover")
    assert question == {"prompt": "A dog.", "negative": "dog", "seed": 7}


def test_a_portrait_clip_gets_the_size_turned_and_a_small_one_is_not_enlarged() -> None:
    settings = DraftSettings(width=320, height=180)
    assert settings.size_for(720, 1280) == (180, 320)
    assert settings.size_for(64, 48) == (64, 48)


def test_what_the_model_turns_away_is_told_and_goes_on(alone: Alone) -> None:
    made = alone.process(draft(TurningAway), **files(alone), **ROW)
    assert "draft_video" not in made
    assert (made["draft_refusal"], made["draft_facts"]) == ("unrevealed", {"unrevealed": 0.4})


def test_without_a_draft_role_for_their_task_items_pass() -> None:
    assert Draft(None, {"remover": spec(Inverting)}).idle
    assert draft().applies(ROW)
    assert not draft().applies(ROW | {"task": "swap"}), "the profile drafts removals only"
    assert not draft(TurningAway).applies(ROW | {"task": "text_removal"}), "its model makes removals only"


def test_the_full_edit_knows_nothing_of_drafts() -> None:
    def key(draft_seed: int) -> str:
        specs = {"remover": spec(Inverting), "draft_remover": spec(Inverting, seed=draft_seed)}
        return Synthesize(None, specs).key_of(ROW | {"draft_video": f"artifacts/{draft_seed}.mp4"})

    assert key(1) == key(2) == Synthesize(None, {"remover": spec(Inverting)}).key_of(ROW)
