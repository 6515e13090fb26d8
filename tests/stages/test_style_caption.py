"""`style_caption`: a name and a text for what the reference would do to the clip."""

from __future__ import annotations

import pytest

from ffpdata.core.stage import Reject
from ffpdata.stages.style_caption import StyleCaption
from tests.answers import ANSWERS
from tests.stages.alone import Alone, asked, asking, flat


def test_a_style_caption_has_a_name_and_a_text(alone: Alone) -> None:
    stage = asking(StyleCaption, ANSWERS["style_caption"])
    files = {
        "source_video": alone.video("source", flat(90)),
        "reference_image": alone.image("reference", flat(30)[0]),
    }
    made = alone.process(stage, **files)
    assert made == {"style": "loose oil painting", "style_caption": ANSWERS["style_caption"]["caption"]}
    [call] = asked(stage)
    assert list(call["media"]) == ["reference", "source"], "the reference first, as the prompt says"
    with pytest.raises(Reject, match="style must be lowercase"):
        alone.process(asking(StyleCaption, ANSWERS["style_caption"] | {"style": "Oil"}), **files)
