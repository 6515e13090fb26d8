"""`edit_frame`: what the editor is asked, and what is kept of its answer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffpdata.core.stage import Reject
from ffpdata.media.codec import read_image
from ffpdata.models.protocols import EditedImage
from ffpdata.stages.edit_frame import EditFrame
from tests.stages.alone import Alone, Backend, asked, flat, spec, square


class Negative(Backend):
    """Turns a picture into its negative."""

    name, tasks = "negative", ("modification", "stylization")

    def edit_image(self, image: np.ndarray, **question: Any) -> EditedImage:
        self.asked.append(question)
        return EditedImage(255 - image, {"turned": 1.0})


def made_by(alone: Alone, **changes: Any) -> tuple[EditFrame, dict[str, Any]]:
    entry = spec(Negative).model_copy(update={"backend": f"{__name__}:Negative"})
    row = {"source_video": alone.video("in", flat(60)), "task": "modification", "edit_instruction": "Turn it."}
    return EditFrame(None, {"image_editor": entry}), row | {"seed": 5} | changes


def test_the_editor_sees_frame_outline_and_words(alone: Alone) -> None:
    masks = square()
    masks[1:] = False
    stage, row = made_by(alone, mask_video=alone.masks("mask", masks))
    found = alone.process(stage, **row)
    assert np.abs(read_image(found["edited_first_frame"]).astype(int) - 195).max() <= 2
    sha = hashlib.sha256(Path(found["edited_first_frame"]).read_bytes()).hexdigest()
    assert sha.startswith(found["edited_first_frame_id"])
    assert found["frame_facts"] == {"turned": 1.0}
    [one] = asked(stage, "image_editor")
    assert np.array_equal(one["mask"], masks[0])
    assert (one["task"], one["prompt"], one["seed"], one["reference"]) == ("modification", "Turn it.", 5, None)


def test_a_style_image_is_shown_and_no_outline(alone: Alone) -> None:
    picture = np.full((20, 30, 3), 9, np.uint8)
    stage, row = made_by(alone, task="stylization", reference_image=alone.image("style", picture))
    alone.process(stage, **row)
    [one] = asked(stage, "image_editor")
    assert np.array_equal(one["reference"], picture)
    assert one["mask"] is None


def test_what_cannot_be_edited_is_rejected(alone: Alone) -> None:
    stage, row = made_by(alone, task="addition")
    with pytest.raises(Reject, match="negative makes modification and stylization, and not addition") as why:
        alone.process(stage, **row)
    assert why.value.reason == "needs_trained_model"
    masks = square()
    masks[0] = False
    stage, row = made_by(alone, mask_video=alone.masks("mask", masks))
    with pytest.raises(Reject, match=r"covers 0\.00% of the first frame, at least 0\.20%") as why:
        alone.process(stage, **row)
    assert why.value.reason == "object_not_in_first_frame"
