"""`synthesize`: which model makes which task, and what it is asked."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.media.codec import read_video
from ffpdata.stages.synthesize import Synthesize, SynthesizeSettings, edit_arguments
from tests.stages.alone import FPS, Alone, Inverting, asked, flat, spec, square

ROW = {"caption": "A dog.", "target_caption": None, "object": "dog", "seed": 7}


def make(**settings: object) -> Synthesize:
    specs = {"remover": spec(Inverting, of="removal"), "swapper": spec(Inverting, of="swap")}
    return Synthesize(SynthesizeSettings(**settings), specs)


@pytest.mark.parametrize(("task", "role"), [("removal", "remover"), ("swap", "swapper")])
def test_each_task_has_its_model_and_no_other_counts(alone: Alone, task: str, role: str) -> None:
    stage = make()
    values = ROW | {"task": task, "fps": FPS}
    files = {"source_video": alone.video("in", flat(40)), "condition_mask": alone.masks("mask", square())}
    made = alone.process(stage, **files, **values)
    assert stage.roles(values) == (role,)
    assert len(asked(stage, role)) == 1
    other = "swapper" if role == "remover" else "remover"
    assert asked(stage, other) == []
    target = read_video(made["target_video"]).astype(int)
    assert target[:, 20:28, 20:28].mean() == pytest.approx(215, abs=4), "the region is repainted"
    assert np.abs(target[:, :, 44:] - 40).mean() < 2
    assert made["edit_facts"] == {"unrevealed": pytest.approx(square().mean())}


def test_a_change_of_the_remover_redoes_no_swap() -> None:
    old, new = make(), Synthesize(None, {"remover": spec(Inverting, of="x"), "swapper": spec(Inverting, of="swap")})
    assert old.fixed_key(("remover",)) != new.fixed_key(("remover",))
    assert old.fixed_key(("swapper",)) == new.fixed_key(("swapper",))


def test_a_removal_follows_the_caption_without_the_object_and_forbids_its_name() -> None:
    row = ROW | {"task": "removal", "target_caption": "A yard."}
    assert edit_arguments(row, SynthesizeSettings()) == {"prompt": "A yard.", "negative": "dog", "seed": 7}
    blurred = SynthesizeSettings(negative="blurry, text")
    assert edit_arguments(row, blurred)["negative"] == "dog, blurry, text"
    assert edit_arguments(row, SynthesizeSettings(negative_object=False, negative="blurry"))["negative"] == "blurry"
    assert edit_arguments(ROW | {"task": "removal"}, SynthesizeSettings())["prompt"] == "A dog."


def test_a_swap_keeps_the_caption_and_the_name() -> None:
    row = ROW | {"task": "swap"}
    assert edit_arguments(row, SynthesizeSettings(negative="blurry")) == {
        "prompt": "A dog.",
        "negative": "blurry",
        "seed": 7,
    }
