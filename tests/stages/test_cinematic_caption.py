"""`cinematic_caption`: what guides the animation of a still."""

from __future__ import annotations

from ffpdata.stages.cinematic_caption import CinematicCaption
from tests.answers import ANSWERS
from tests.stages.alone import Alone, asked, asking, flat


def test_cinematic_captions_are_for_stills(alone: Alone) -> None:
    stage = asking(CinematicCaption, ANSWERS["cinematic_caption"])
    assert stage.applies({"content_image": "a.png"})
    assert not stage.applies({"content_image": None})
    assert not stage.applies({})
    image = alone.image("still", flat(90)[0])
    assert alone.process(stage, content_image=image, given_caption="Mine.") == {"cinematic_caption": "Mine."}
    assert asked(stage) == []
    assert alone.process(stage, content_image=image)["cinematic_caption"].endswith("the camera moves slowly forward.")
    assert asked(stage)[0]["media"]["source"].shape == (48, 64, 3)
