"""Prompts: every file of the project is sound, and an answer that breaks a rule is told which one and by how much."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from ffpdata.core.errors import ConfigError
from ffpdata.core.prompt import NEGATIONS, Prompt, mentions, split_words

FOLDER = Path(__file__).parents[2] / "prompts"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
BASE: dict[str, Any] = {
    "name": "ask",
    "about": "Nothing in the paper.",
    "inputs": ["object"],
    "media": {"source": "clip"},
    "text": "What became of the {object}? Answer in JSON: {{...}}",
    "answer": {
        "caption": {"type": "string", "maxLength": 200},
        "tags": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string", "maxLength": 20}},
    },
    "rules": {
        "caption": {"words": [3, 8], "starts": "The video", "sentences": 1, "no_negation": True, "omits": "object"},
        "tags": {"lowercase": True, "distinct": True, "words": [1, 2], "avoids": ["camera"]},
    },
}
GOOD = {"caption": "The video shows a quiet street.", "tags": ["street", "tall house"]}


def write(folder: Path, **changes: Any) -> Path:
    data = copy.deepcopy(BASE) | changes
    path = folder / "ask.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def load(folder: Path, **changes: Any) -> Prompt:
    return Prompt.load(write(folder, **changes))


def test_the_project_asks_the_questions_of_its_tracks() -> None:
    local = {"identify", "caption", "removal_caption", "discriminate", "screen", "instruct", "verify"}
    style = {"cinematic_caption", "style_caption", "instruct_style"}
    more = {"background_caption", "screen_background", "instruct_background", "identify_text", "instruct_text"}
    picture = {f"{name}_reference" for name in ("screen", "instruct", "verify")} | {"reference_caption"}
    worded = {"wordings", "pair_captions", "instruct_addition"}
    assert set(NAMES) == local | style | more | picture | worded | {"plan_frame", "judge"}


@pytest.mark.parametrize("name", NAMES)
def test_every_prompt_file_is_sound(name: str) -> None:
    prompt = Prompt.load(FOLDER / f"{name}.yaml")
    rendered = prompt.render(dict.fromkeys(prompt.inputs, "dog"))
    assert "{" not in rendered
    for field, schema in prompt.schema["properties"].items():
        assert f'"{field}"' in prompt.text, f"the text does not say what {field} is"
        strings = [schema] if schema["type"] == "string" else [schema["items"]] if schema["type"] == "array" else []
        for string in strings:
            assert "maxLength" in string or "enum" in string, f"{field} may grow without end"
    assert yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["about"].count("section") >= 1


def test_the_captions_carry_the_rules_of_the_paper() -> None:
    caption, removal = (Prompt.load(FOLDER / f"{name}.yaml") for name in ("caption", "removal_caption"))
    assert caption.rules["caption"].words == (18, 30)
    assert removal.rules["caption"].words == (35, 60)
    for prompt in (caption, removal):
        rule = prompt.rules["caption"]
        assert (rule.starts, rule.sentences, rule.no_negation) == ("The video shows", 1, True)
    assert removal.rules["caption"].omits == "object"
    task = Prompt.load(FOLDER / "discriminate.yaml").schema["properties"]["task"]
    assert task["enum"] == ["swap", "modification"]
    assert Prompt.load(FOLDER / "identify.yaml").schema["properties"]["objects"]["maxItems"] == 3


def test_a_good_answer_breaks_nothing(tmp_path: Path) -> None:
    assert load(tmp_path).violations(GOOD, {"object": "dog"}) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"caption": "The video runs"}, []),
        ({"caption": "The video"}, ["caption has 2 words, wanted 3 to 8"]),
        ({"caption": "A video of a quiet street"}, ["caption must start with 'The video'"]),
        ({"caption": "The videos show a quiet street"}, ["caption must start with 'The video'"]),
        ({"caption": "The video shows no cars."}, ["caption uses a negation: no"]),
        ({"caption": "The video doesn\u2019t show cars."}, ["caption uses a negation: doesn't"]),
        ({"caption": "The video runs. It ends."}, ["caption has 2 sentences, wanted 1"]),
        ({"caption": "The video shows two Dogs."}, ["caption mentions 'dog', which must not appear"]),
        ({"tags": ["Street"]}, ["tags must be lowercase, got 'Street'"]),
        ({"tags": ["street", "street"]}, ["tags must not repeat itself"]),
        ({"tags": ["camera"]}, ["tags uses a word to avoid: camera"]),
        ({"tags": []}, ["tags must have a length in [1, 2], got 0"]),
        ({"tags": [3]}, ["tags[0] must be of type string, got 3"]),
        ({"tags": "street"}, ["tags must be of type array, got 'street'"]),
        ({"more": 1}, ["answer has the unknown entry 'more'"]),
    ],
)
def test_a_broken_rule_is_named(tmp_path: Path, change: dict[str, Any], told: list[str]) -> None:
    found = load(tmp_path).violations(GOOD | change, {"object": "dog"})
    assert len(found) == len(told)
    for violation, expected in zip(found, told, strict=True):
        assert violation.startswith(expected)


def test_a_missing_entry_is_named(tmp_path: Path) -> None:
    assert load(tmp_path).violations({"tags": ["street"]}, {}) == ["answer lacks 'caption'"]


def test_one_of_several_beginnings_will_do(tmp_path: Path) -> None:
    prompt = load(tmp_path, rules={"caption": {"starts": ["Remove", "Get rid of"]}})
    assert prompt.violations({**GOOD, "caption": "Get rid of the dog"}, {}) == []
    assert prompt.violations({**GOOD, "caption": "Removed the dog"}, {}) == [
        "caption must start with 'Remove' or 'Get rid of', got 'Removed the dog'"
    ]


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("a dog runs", "dog", True),
        ("two dogs run", "dog", True),
        ("dogma", "dog", False),
        ("a Blue  cup", "blue cup", True),
        ("blue and a cup", "blue cup", False),
        ("two people", "person", True),
        ("a person", "people", True),
        ("empty glasses", "glass", True),
        ("a bus", "buses", True),
        ("some ladies", "lady", True),
        ("a knife", "knives", True),
        ("anything", "", False),
        ("anything", "?!", False),
    ],
)
def test_mentions_finds_singular_and_plural(text: str, phrase: str, found: bool) -> None:
    assert mentions(text, phrase) is found


def test_words_are_counted_as_people_count_them() -> None:
    assert split_words("A hand-held shot, isn't it?") == ["A", "hand-held", "shot", "isn't", "it"]
    assert "without" in NEGATIONS


def test_the_template_is_filled_and_its_braces_are_kept(tmp_path: Path) -> None:
    prompt = load(tmp_path)
    assert prompt.render({"object": "{dog}"}) == "What became of the {dog}? Answer in JSON: {...}"
    with pytest.raises(ConfigError, match=r"'ask' needs the fields \['object'\]"):
        prompt.render({"objekt": "dog"})


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "What of the {object}?"},
        {"media": {"source": "first_frame"}},
        {"rules": {}},
        {"answer": {**BASE["answer"], "caption": {"type": "string", "maxLength": 201}}},
        {"answer": dict(reversed(BASE["answer"].items()))},
    ],
)
def test_whatever_shapes_the_answer_changes_the_key(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert load(tmp_path, **changes).key != load(tmp_path).key


def test_the_key_knows_no_place_and_no_comment(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert load(tmp_path / "other", about="Section 9.").key == load(tmp_path).key


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"question": "?"}, "question: Extra inputs are not permitted"),
        ({"inputs": []}, r"text uses \['object'\] but inputs lists \[\]"),
        ({"media": {"source": "movie"}}, "media.source"),
        ({"rules": {"captoin": {}}}, "rules names 'captoin', no field of the answer; did you mean 'caption'"),
        ({"rules": {"caption": {"omits": "objects"}}}, "omits names 'objects', no input; did you mean 'object'"),
        ({"name": "tell"}, "name is 'tell': it must be the file's name, 'ask'"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, **changes)


def test_a_file_that_is_missing_or_no_yaml(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ConfigError, match="no such prompt file; did you mean 'ask'"):
        Prompt.load(tmp_path / "aks.yaml")
    (tmp_path / "bad.yaml").write_text("name: [")
    with pytest.raises(ConfigError, match=r"bad\.yaml: not valid YAML"):
        Prompt.load(tmp_path / "bad.yaml")
