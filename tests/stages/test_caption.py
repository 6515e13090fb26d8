"""`caption`: the user's sentence, or the model's, and who wrote it."""

from __future__ import annotations

import pytest

from ffpdata.core.stage import Reject
from ffpdata.stages.caption import Caption
from tests.answers import ANSWERS
from tests.stages.alone import Alone, Measuring, asked, asking, flat


def test_the_user_s_caption_is_kept_as_it_is(alone: Alone) -> None:
    stage = asking(Caption, ANSWERS["caption"])
    values = {"source_video": alone.video("source", flat(90)), "object": "dog"}
    assert alone.process(stage, **values, given_caption="no rule binds me") == {
        "caption": "no rule binds me",
        "caption_by": "user",
    }
    assert asked(stage) == []


def test_otherwise_the_row_says_who_wrote_it(alone: Alone) -> None:
    values = {"source_video": alone.video("source", flat(90)), "object": "dog", "given_caption": ""}
    for backend, by in ((None, "model"), (Measuring, "template")):
        stage = asking(Caption, ANSWERS["caption"], *([backend] if backend else []))
        assert alone.process(stage, **values) == {"caption": ANSWERS["caption"]["caption"], "caption_by": by}
        [call] = asked(stage)
        assert list(call["media"]) == ["source"], "no model is given more than the clip"
        assert call["fields"] == {"object": "dog"} | ({} if backend else {"fps": 16.0})


@pytest.mark.parametrize("caption", ["A yard.", ANSWERS["caption"]["caption"].replace("quiet", "camera")])
def test_a_caption_that_breaks_a_rule_is_refused(alone: Alone, caption: str) -> None:
    with pytest.raises(Reject, match="answer_breaks_rules"):
        alone.process(asking(Caption, {"caption": caption}), source_video=alone.video("source", flat(90)), object="dog")
