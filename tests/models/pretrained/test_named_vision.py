"""The vision-language back end on real networks: it names what the segmenter takes, and keeps the prompts' rules."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec
from ffpdata.models.pretrained.candidates import labels_of
from ffpdata.models.pretrained.named_vision import NamedVision
from ffpdata.sample.photos import photo

pytestmark = pytest.mark.usefixtures("packaged_models")
FOLDER = Path(__file__).parents[3] / "prompts"


@cache
def model() -> NamedVision:
    return NamedVision(ModelSpec(backend="ffpdata.models.pretrained.named_vision:NamedVision"))


def ask(question: str, media: dict[str, Any], **fields: Any) -> dict[str, Any]:
    prompt = Prompt.load(FOLDER / f"{question}.yaml")
    answer = model().ask(prompt, media, fields)
    assert prompt.violations(answer, fields) == []
    return answer


@pytest.fixture(scope="module")
def coffee() -> np.ndarray:
    """A cup of coffee on a table, uint8 (3, H, W, 3)."""
    return np.repeat(np.ascontiguousarray(photo("coffee"))[None], 3, axis=0)


def test_a_cup_is_named_in_every_answer(coffee: np.ndarray) -> None:
    objects = ask("identify", {"source": coffee[0]})["objects"]
    assert objects[0] == "cup"
    assert labels_of(objects[0]), "the segmenter looks for it by name"
    own = ask("caption", {"source": coffee}, object="cup")["caption"]
    assert own.startswith("The video shows a cup on ")
    without = ask("removal_caption", {"source": coffee}, object="cup", caption=own)["caption"]
    assert "cup" not in without
    assert "a cup" in ask("cinematic_caption", {"source": coffee[0]})["caption"]


def test_the_users_word_and_caption_come_first(coffee: np.ndarray) -> None:
    assert ask("identify", {"source": coffee[0]}, object="saucer") == {"objects": ["saucer"]}
    told = "The video shows a cup on an old wooden table beside a window."
    without = ask("removal_caption", {"source": coffee}, object="cup", caption=told)["caption"]
    assert "an old wooden table beside a window" in without


def test_a_scene_without_named_things_is_described_as_without_networks() -> None:
    empty = np.full((3, 90, 160, 3), 120, np.uint8)
    assert ask("identify", {"source": empty[0]})["objects"] == ["moving object", "object"]
    assert ask("caption", {"source": empty}, object="object")["caption"].startswith(
        "The video shows a softly lit scene"
    )
