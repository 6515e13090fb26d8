"""The template answers: they keep the prompts' own rules whatever they are shown, and say what was measured."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffpdata.core.errors import ConfigError, FatalError, Reject
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec
from ffpdata.models.classical.vision_language.template_vision import BEYOND, TemplateVision
from tests.models.classical.toys import Scene, painting, scene

BACKEND = "ffpdata.models.classical.vision_language.template_vision:TemplateVision"
FOLDER = Path(__file__).parents[4] / "prompts"
MODEL = TemplateVision(ModelSpec(backend=BACKEND))
UNSAYABLE = {"the", "video", "shows", "this"}
"""Words that a caption cannot do without."""


@cache
def prompt(name: str) -> Prompt:
    return Prompt.load(FOLDER / f"{name}.yaml")


def ask(question: str, media: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Ask, and hold the answer against the prompt's schema and rules."""
    answer = MODEL.ask(prompt(question), media, fields)
    assert prompt(question).violations(answer, fields) == []
    return answer


@pytest.fixture(scope="module")
def shot() -> Scene:
    return scene(frames=9)


def pair(shot: Scene, target: np.ndarray) -> dict[str, Any]:
    return {"source": shot.source, "target": target, "mask": shot.masks}


def recoloured(shot: Scene) -> np.ndarray:
    return np.where(shot.masks[..., None], shot.source[..., ::-1], shot.source)


def odd_clips() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "black": np.zeros((5, 48, 64, 3), np.uint8),
        "white": np.full((5, 48, 64, 3), 255, np.uint8),
        "noise": rng.integers(0, 255, (5, 48, 64, 3)).astype(np.uint8),
        "pixel": np.full((1, 1, 1, 3), 77, np.uint8),
        "line": rng.integers(0, 255, (2, 2, 64, 3)).astype(np.uint8),
        "upright": rng.integers(0, 255, (3, 64, 36, 3)).astype(np.uint8),
    }


@pytest.mark.parametrize("name", sorted({path.stem for path in FOLDER.glob("*.yaml")} - set(BEYOND)))
def test_every_prompt_of_the_project_has_an_answer(shot: Scene, name: str) -> None:
    media = {**pair(shot, recoloured(shot)), "reference": painting()}
    fields = {"task": "modification", "object": "ball", "caption": "", "style": ""}
    fields["instruction"] = "Change the colour of the ball to blue." if name == "wordings" else ""
    ask(name, media, **fields | {"task": "addition", "thing": "ball"} if name == "instruct_addition" else fields)


@pytest.mark.parametrize("name", sorted(BEYOND))
def test_what_no_measurement_answers_is_rejected(shot: Scene, name: str) -> None:
    with pytest.raises(Reject) as caught:
        ask(name, pair(shot, recoloured(shot)), object="ball", caption="")
    assert caught.value.reason == "needs_trained_model"


def test_identify_names_what_the_user_named_and_nothing_it_cannot_know(shot: Scene) -> None:
    assert ask("identify", {"source": shot.source[0]}) == {"objects": ["moving object", "object"]}
    assert ask("identify", {"source": shot.source[0]}, object="The big Blue Cup") == {"objects": ["blue cup"]}
    assert ask("identify", {"source": shot.source[0]}, object="?")["objects"][0] == "moving object"


def test_captions_name_the_object_unless_it_is_to_be_gone(shot: Scene) -> None:
    assert "a dog" in ask("caption", {"source": shot.source}, object="dog")["caption"]
    own = ask("caption", {"source": shot.source}, object="dog")["caption"]
    without = ask("removal_caption", {"source": shot.source}, object="dog", caption=own)["caption"]
    assert without.startswith("The video shows a softly lit scene, mostly green")


def test_the_place_in_a_users_caption_is_kept(shot: Scene) -> None:
    given = "The video shows a dog running in a paved yard with green plants, where children play."
    found = ask("removal_caption", {"source": shot.source}, object="dog", caption=given)["caption"]
    assert found.startswith("The video shows a paved yard with green plants, ")
    for bad in ("A man with his dog in his yard without trees", "A dog on the dog bed", "A dog barks"):
        found = ask("removal_caption", {"source": shot.source}, object="dog", caption=bad)["caption"]
        assert found.startswith("The video shows a softly lit scene")


@pytest.mark.parametrize("name", odd_clips())
def test_odd_clips_get_lawful_answers(name: str) -> None:
    clip = odd_clips()[name]
    empty = np.zeros(clip.shape[:3], bool)
    media = {"source": clip, "target": clip, "mask": empty, "reference": clip[0]}
    own = ask("caption", {"source": clip}, object="")["caption"]
    ask("removal_caption", {"source": clip, "mask": ~empty}, object="", caption=own)
    ask("cinematic_caption", {"source": clip[0]})
    style = ask("style_caption", media)["style"]
    ask("instruct_style", media, style=style)
    ask("discriminate", media, object="")
    assert ask("screen", media, object="")["score"] == 0
    for task in ("removal", "swap", "modification", "addition"):
        ask("instruct", media, object="", task=task)
        assert not ask("verify", media, object="", task=task, instruction="")["follows"]
    assert not ask("verify", media, task="stylization", instruction="")["follows"]


@settings(max_examples=60, deadline=None)
@given(
    phrase=st.text(max_size=60) | st.sampled_from(["no entry sign", "camera", "scene", "light", "orange", "contrast"])
)
def test_any_object_gets_lawful_sentences(phrase: str) -> None:
    clip = scene(width=64, height=48, frames=3)
    media = {"source": clip.source, "target": clip.source, "mask": clip.masks}
    own = ask("caption", {"source": clip.source}, object=phrase)["caption"]
    ask("identify", {"source": clip.source[0]}, object=phrase)
    ask("discriminate", media, object=phrase)
    for task in ("removal", "modification", "swap", "addition"):
        ask("instruct", media, object=phrase, task=task)
    ask("instruct_style", {**media, "reference": painting()}, style=phrase)
    if phrase.strip().lower() not in UNSAYABLE | {"a", "and", "with", "of", "in"}:
        ask("removal_caption", {"source": clip.source}, object=phrase, caption=own)


@pytest.mark.parametrize(
    "word",
    ["scene", "view", "colours", "tone", "surface", "light", "contrast", "half", "parts", "top", "green", "picture"],
)
def test_a_removal_caption_does_without_its_own_words(shot: Scene, word: str) -> None:
    ask("removal_caption", {"source": shot.source}, object=word, caption="")


def test_instructions_say_what_was_measured(shot: Scene) -> None:
    gone = pair(shot, shot.inside(shot.background))
    assert ask("instruct", gone, task="removal", object="ball")["instruction"] == (
        "Remove the red ball moving from left to right."
    )
    assert ask("instruct", gone, task="removal", object="moving object")["instruction"] == (
        "Remove the red object moving from left to right."
    )
    back = {"source": gone["target"], "target": gone["source"], "mask": shot.masks}
    assert ask("instruct", back, task="addition", object="ball")["instruction"] == (
        "Add a red ball moving from left to right."
    )
    blue = pair(shot, recoloured(shot))
    assert ask("instruct", blue, task="modification", object="ball")["instruction"] == (
        "Change the colour of the moving ball from red to blue."
    )
    assert ask("instruct", blue, task="swap", object="ball")["instruction"] == (
        "Replace the red ball moving from left to right with a blue object."
    )
    darker = pair(shot, np.where(shot.masks[..., None], (shot.source * 0.7).astype(np.uint8), shot.source))
    assert "Make the moving ball darker" in ask("instruct", darker, task="modification", object="ball")["instruction"]


def striped(shot: Scene) -> np.ndarray:
    """The red ball with blue stripes of 12 pixels."""
    stripes = (np.arange(shot.source.shape[1]) // 6 % 2 == 0)[None, :, None]
    return np.where((shot.masks & stripes)[..., None], shot.source[..., ::-1], shot.source)


def test_a_pattern_is_a_modification_and_is_told(shot: Scene) -> None:
    """The editor says that it painted stripes; their colour is measured."""
    painted = pair(shot, striped(shot))
    facts = {"look_stripes": 1.0, "painted_part": 0.9}
    told = ask("instruct", painted, task="modification", object="ball", **facts)["instruction"]
    assert told == "Paint the moving ball with blue stripes."
    assert ask("discriminate", painted, object="ball")["task"] == "modification"
    assert ask("verify", painted, task="modification", object="ball", instruction=told)["score"] >= 7
    other = ask("verify", painted, task="modification", object="ball", instruction=told.replace("blue", "green"))
    assert other["score"] < 5


def test_a_painted_part_is_named_by_its_colour(shot: Scene) -> None:
    answer = ask("instruct", pair(shot, recoloured(shot)), task="modification", object="person", painted_part=0.2)
    assert answer["instruction"] == "Change the colour of the red parts of the moving person to blue."


@pytest.mark.parametrize(
    ("word", "right"),
    [("astronaut", "an"), ("unicorn", "a"), ("hourglass", "an"), ("SUV", "an"), ("one-eyed cat", "a")],
)
def test_the_article_before_a_users_word(shot: Scene, word: str, right: str) -> None:
    """In every sentence that has one there: the caption, an instruction to add, an instruction to restyle."""
    media = {"source": shot.source, "target": shot.source, "reference": painting(), "mask": shot.masks}
    caption = ask("caption", {"source": shot.source, "mask": shot.masks}, object=word)["caption"]
    assert caption.startswith(f"The video shows {right} {word} in a ")
    assert f" as {right} {word} picture, " in ask("instruct_style", media, style=word)["instruction"]
    colourless = {"source": shot.source, "target": shot.source}
    assert ask("instruct", colourless, task="addition", object=word)["instruction"].startswith(f"Add {right} {word}")


def test_styles_are_named_by_texture_and_palette(shot: Scene) -> None:
    media = {"source": shot.source, "target": shot.source, "reference": painting()}
    answer = ask("style_caption", media)
    assert "dark blue" in answer["style"]
    assert "dark blue" in answer["caption"]
    assert "blue" in ask("instruct_style", media, style=answer["style"])["instruction"]
    assert ask("style_caption", media, style="Stained Glass")["style"] == "stained glass"
    assert ask("instruct_style", media, style="oil painting")["instruction"].startswith(
        "Restyle the whole video as an oil painting, with a palette of dark blue"
    )


def test_discriminate_tells_a_new_coat_from_a_new_thing(shot: Scene) -> None:
    assert ask("discriminate", pair(shot, recoloured(shot)), object="ball")["task"] == "modification"
    assert ask("discriminate", pair(shot, shot.inside(shot.background)), object="ball")["task"] == "swap"


def test_screen_passes_the_good_removal_alone(shot: Scene) -> None:
    good = ask("screen", pair(shot, shot.inside(shot.background)), object="ball")
    bad = ask("screen", pair(shot, shot.source), object="ball")
    assert good["score"] >= 9
    assert good["object_gone"]
    assert good["background_plausible"]
    assert not good["flicker"]
    assert bad["score"] == 0
    assert not bad["object_gone"]
    assert "made out" in bad["reason"]
    unknown = ask("screen", pair(shot, shot.inside(shot.background)), object="ball", unrevealed=0.5)
    assert unknown["score"] < good["score"]


def test_verify_wants_the_edit_that_was_asked_for(shot: Scene) -> None:
    gone, blue, same = (pair(shot, t) for t in (shot.inside(shot.background), recoloured(shot), shot.source))
    to_blue, away = "Change the colour of the ball from red to blue.", "Remove the red ball."
    assert ask("verify", gone, task="removal", instruction=away)["follows"]
    assert not ask("verify", same, task="removal", instruction=away)["follows"]
    assert ask("verify", blue, task="modification", instruction=to_blue)["follows"]
    assert not ask("verify", blue, task="modification", instruction="Change the colour of the ball to green.")[
        "follows"
    ]
    assert not ask("verify", same, task="modification", instruction=to_blue)["follows"]
    back = {"source": gone["target"], "target": gone["source"], "mask": shot.masks}
    assert ask("verify", back, task="addition", instruction="Add a red ball.")["follows"]


def test_it_says_how_it_works() -> None:
    assert MODEL.measures
    assert MODEL.kind == "template"


def test_what_it_cannot_answer(shot: Scene, tmp_path: Path) -> None:
    other = (FOLDER / "verify.yaml").read_text().replace("name: verify", "name: verfy")
    (tmp_path / "verfy.yaml").write_text(other)
    with pytest.raises(FatalError, match="no answer to the prompt 'verfy'; did you mean 'verify'"):
        MODEL.ask(Prompt.load(tmp_path / "verfy.yaml"), {}, {})
    with pytest.raises(FatalError, match="no template for the task 'remove'; did you mean 'removal'"):
        MODEL.ask(prompt("instruct"), {"source": shot.source}, {"task": "remove"})
    with pytest.raises(FatalError, match="needs the medium 'mask', got \\['source', 'target'\\]"):
        MODEL.ask(prompt("screen"), {"source": shot.source, "target": shot.source}, {})
    with pytest.raises(ConfigError, match="no entry 'folows'; did you mean 'follows'"):
        TemplateVision(ModelSpec(backend=BACKEND, settings={"folows": 1}))
