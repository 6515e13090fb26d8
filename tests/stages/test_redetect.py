"""`redetect`: what a detector that sees light things says of removals and modifications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ffpdata.core.stage import ModelSpec, Reject
from ffpdata.models.protocols import Detection
from ffpdata.stages.redetect import Redetect, RedetectSettings
from tests.stages.alone import Alone, Backend, flat, light_square, square


class Shapes(Backend):
    """Sees what is lighter than the middle as one thing; the lighter, the surer. Red things have another name."""

    name = "shapes"

    def detect(self, picture: np.ndarray) -> Sequence[Detection]:
        self.asked.append({"size": picture.shape[:2]})
        light = picture.max(axis=-1) > 100
        if not light.any():
            return []
        ys, xs = np.nonzero(light)
        box = (float(xs.min()), float(ys.min()), float(xs.max()) + 1, float(ys.max()) + 1)
        red = picture[light][:, 0].mean() > picture[light][:, 1].mean() + 60
        return [Detection("tomato" if red else "lamp", float(picture[light].max()) / 255, box)]


def redetect(alone: Alone, target: np.ndarray, task: str, source: np.ndarray | None = None) -> dict[str, Any]:
    stage = Redetect(RedetectSettings(step=2), {"detector": ModelSpec.of(Shapes)})
    values = {"source_video": alone.video("source", light_square() if source is None else source)}
    values |= {"target_video": alone.video("target", target), "mask_video": alone.masks("mask", square())}
    found = alone.process(stage, task=task, **values)
    sizes = {asked["size"] for asked in stage.model("detector").asked}
    assert sizes == {(33, 33)}, "a half of its side around the object, of 16"
    return found


def test_what_is_gone_passes(alone: Alone) -> None:
    found = redetect(alone, flat(20), "removal")
    assert found == {"redetect_label": "lamp", "redetect_frames": 3, "redetect_share": 0.0}


def test_what_is_still_there_is_rejected_with_the_numbers(alone: Alone) -> None:
    with pytest.raises(Reject, match="a lamp is seen at its place in 3 of the 3 frames") as caught:
        redetect(alone, light_square(), "removal")
    assert caught.value.reason == "object_still_there"
    assert caught.value.facts["redetect_share"] == 1.0


def test_a_part_that_was_left_is_rejected_too(alone: Alone) -> None:
    left = flat(20)
    left[:, 24:32, 16:28] = 230
    with pytest.raises(Reject, match="object_still_there"):
        redetect(alone, left, "removal")


def test_another_kind_of_thing_at_its_place_is_no_trace_of_it(alone: Alone) -> None:
    red = flat(20)
    red[square()] = (230, 20, 20)
    assert redetect(alone, red, "removal")["redetect_share"] == 0.0


def test_a_modification_keeps_the_object_in_every_frame(alone: Alone) -> None:
    darker = flat(20)
    darker[square()] = 150
    assert redetect(alone, darker, "modification")["redetect_share"] == 1.0
    half = darker.copy()
    half[2:] = 20
    with pytest.raises(Reject, match="in 1 of the 3 frames") as caught:
        redetect(alone, half, "modification")
    assert caught.value.reason == "object_destroyed"


def test_what_it_does_not_see_in_the_source_it_does_not_miss(alone: Alone) -> None:
    found = redetect(alone, flat(20), "modification", source=flat(20))
    assert found == {"redetect_label": None, "redetect_frames": 0, "redetect_share": None}


def test_where_it_applies() -> None:
    there, mask = Redetect(specs={"detector": ModelSpec.of(Shapes)}), {"mask_video": "m"}
    assert there.applies({"task": "removal"} | mask)
    assert there.applies({"task": "modification"} | mask)
    assert not there.applies({"task": "swap"} | mask), "another kind of thing may be what was asked for"
    assert not there.applies({"task": "stylization"})
    assert not Redetect().applies({"task": "removal"} | mask), "no detector, no opinion"
    Redetect().setup()
