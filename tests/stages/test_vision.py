"""A question that shows what its stage does not have stops the run: no item could be asked it."""

from __future__ import annotations

import pytest

from ffpdata.core.errors import ConfigError
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec, Row
from ffpdata.stages._vision import VisionStage


class Looks:
    """A model that is shown what the question shows."""

    name, version = "looks", 1

    def __init__(self, spec: ModelSpec) -> None: ...


class Asks(VisionStage):
    name = "asks"
    reads = ("source_video",)
    prompts = ("question",)


@pytest.mark.parametrize(
    ("medium", "message"),
    [
        (
            "target",
            r"prompt 'question' shows 'target', and stage 'asks' has no 'target_video' to show: add that column",
        ),
        ("sorce", r"prompt 'question' shows 'sorce', which is no medium; did you mean 'source'\?"),
    ],
)
def test_what_a_stage_cannot_show(medium: str, message: str) -> None:
    prompt = Prompt("question", "What is it?", {"type": "object", "properties": {}}, media={medium: "clip"})
    spec = ModelSpec(backend=f"{__name__}:Looks")
    stage = Asks(specs={"vision_language": spec}, prompts={"question": prompt})
    with pytest.raises(ConfigError, match=message):
        stage.ask(Row({"source_video": "a.mp4"}), {})
