"""Stage `reference_caption`: the scene with the object of the picture."""

from __future__ import annotations

from ffpdata.stages.reference_caption import ReferenceCaption
from tests.answers import PLACE
from tests.stages.alone import Alone, asked, asking, flat

CAPTION = {"new_object": "small red boat", "caption": f"{PLACE}."}


def test_it_describes_clip_and_picture(alone: Alone) -> None:
    stage = asking(ReferenceCaption, CAPTION)
    values = {"source_video": alone.video("in", flat(40)), "caption": PLACE, "object": "dog", "task": "reference_swap"}
    made = alone.process(stage, **values, reference_image=alone.image("reference", flat(90)[0]))
    assert made == {"target_caption": CAPTION["caption"], "reference_object": CAPTION["new_object"]}
    assert set(asked(stage)[0]["media"]) == {"source", "reference"}
    assert [stage.applies({"task": task}) for task in ("reference_swap", "swap", "background")] == [True, False, False]
