"""`removal_caption`: the scene as if the object had never been there."""

from __future__ import annotations

import pytest

from ffpdata.core.stage import Reject
from ffpdata.stages.removal_caption import RemovalCaption
from tests.answers import ANSWERS
from tests.stages.alone import Alone, Measuring, asked, asking, flat


def test_removal_captions_are_written_for_removals_alone() -> None:
    stage = asking(RemovalCaption, ANSWERS["removal_caption"])
    assert stage.applies({"task": "removal"})
    assert not stage.applies({"task": "swap"})


def test_a_removal_caption_starts_from_the_caption_and_omits_the_object(alone: Alone) -> None:
    values = {"source_video": alone.video("source", flat(90)), "caption": "A dog in a yard.", "object": "dog"}
    stage = asking(RemovalCaption, ANSWERS["removal_caption"])
    assert alone.process(stage, **values) == {"target_caption": ANSWERS["removal_caption"]["caption"]}
    [call] = asked(stage)
    assert call["fields"] == {"caption": "A dog in a yard.", "object": "dog"}
    assert call["media"] == {}, "a model that looks is shown nothing: the text is rewritten"
    dogs = {"caption": ANSWERS["removal_caption"]["caption"].replace("benches", "dogs")}
    with pytest.raises(Reject, match="mentions 'dog'"):
        alone.process(asking(RemovalCaption, dogs), **values)


def test_a_model_that_measures_is_given_the_clip_for_it(alone: Alone) -> None:
    stage = asking(RemovalCaption, ANSWERS["removal_caption"], Measuring)
    alone.process(stage, source_video=alone.video("source", flat(90)), caption="A dog.", object="dog")
    assert list(asked(stage)[0]["media"]) == ["source"]
