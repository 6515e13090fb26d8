"""A content key changes with everything that shapes an answer, and with nothing else."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffpdata.core.errors import ConfigError
from ffpdata.core.keys import KEY_CHARS, canonical, child_key, digest, source_id
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec, Row, Stage, StageSettings

BACKEND = "tests.core.test_keys:Backend"


class Backend:
    name, version = "eye", 1

    def __init__(self, spec: ModelSpec) -> None: ...

    def close(self) -> None: ...


class Moved(Backend):
    """The same back end after it moved to another class."""

    name = "eye"


class Inherited(Backend):
    """A back end that forgot to say who it is."""


class Settings(StageSettings):
    threshold: float = 0.5


class Look(Stage):
    name, version = "look", 1
    reads = ("video", "object")
    uses = ("path",)
    writes = {"seen": bool}
    models = ("eye", "hand")
    prompts = ("ask",)
    Settings = Settings

    def roles(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        return ("hand",) if row.get("object") == "glove" else ("eye",)

    def process(self, row: Row) -> Mapping[str, Any]:
        return {"seen": True}


ROW = {"video": "artifacts/video/ab/abc.mp4", "object": "dog", "path": "/data/a.mp4", "other": 1}


def prompt(text: str = "What is it?", **changes: Any) -> Prompt:
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    return Prompt(**({"name": "ask", "text": text, "schema": schema} | changes))


def spec(**changes: Any) -> ModelSpec:
    return ModelSpec(**({"backend": BACKEND, "model": "org/eye", "revision": "abc"} | changes))


def key(
    row: Mapping[str, Any] = ROW,
    *,
    stage: type[Look] = Look,
    settings: Settings | None = None,
    eye: ModelSpec | None = None,
    hand: ModelSpec | None = None,
    question: Prompt | None = None,
) -> str:
    specs = {"eye": eye or spec(), "hand": hand or spec(model="org/hand")}
    made = stage(settings or Settings(), specs, {"ask": question or prompt()})
    return made.key_of(row)


def test_a_key_is_stable_text_across_processes() -> None:
    assert key() == key()
    assert len(key()) == KEY_CHARS


class Renamed(Look):
    name = "gaze"


class Newer(Look):
    version = 2


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda: key({**ROW, "object": "cat"}), id="a value it reads"),
        pytest.param(lambda: key({**ROW, "object": None}), id="a value that is gone"),
        pytest.param(lambda: key({**ROW, "video": "artifacts/video/ab/abd.mp4"}), id="another artifact"),
        pytest.param(lambda: key(stage=Renamed), id="the stage's name"),
        pytest.param(lambda: key(stage=Newer), id="the stage's version"),
        pytest.param(lambda: key(settings=Settings(threshold=0.6)), id="a setting"),
        pytest.param(lambda: key(question=prompt("What is this?")), id="a word of the prompt"),
        pytest.param(
            lambda: key(question=prompt(schema={"type": "object", "properties": {}})), id="the prompt's schema"
        ),
        pytest.param(lambda: key(question=prompt(media={"source": "clip"})), id="what the prompt shows"),
        pytest.param(lambda: key(eye=spec(model="org/other")), id="the model"),
        pytest.param(lambda: key(eye=spec(revision="abd")), id="the model's revision"),
        pytest.param(lambda: key(eye=spec(settings={"steps": 4})), id="a model setting"),
    ],
)
def test_what_must_change_a_key(changed: Any) -> None:
    assert changed() != key()


@pytest.mark.parametrize(
    "same",
    [
        pytest.param(lambda: key({**ROW, "path": "/elsewhere/b.mp4"}), id="a path"),
        pytest.param(lambda: key({**ROW, "other": 2}), id="a column it does not read"),
        pytest.param(lambda: key(dict(reversed(ROW.items()))), id="the order of columns"),
        pytest.param(lambda: key(eye=spec(runtime={"device": "cuda:1"})), id="where the model runs"),
        pytest.param(lambda: key(eye=spec(licence="MIT")), id="a note on the model"),
        pytest.param(lambda: key(hand=spec(model="org/fist")), id="a model that this row does not use"),
        pytest.param(lambda: key(settings=Settings()), id="a default spelt out"),
    ],
)
def test_what_must_not_change_a_key(same: Any) -> None:
    assert same() == key()


def test_a_row_counts_the_model_it_uses() -> None:
    glove = {**ROW, "object": "glove"}
    assert key(glove) != key(glove, hand=spec(model="org/fist"))
    assert key(glove) == key(glove, eye=spec(model="org/other"))


def test_the_back_end_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr(Backend, "version", 2)
    assert key() != before


def test_children_have_keys_of_their_own() -> None:
    assert child_key("a", "0") != child_key("a", "1") != child_key("b", "1")


def test_source_id_is_of_the_bytes() -> None:
    assert source_id(io.BytesIO(b"abc")) == "ba7816bf8f01cfea"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", object()])
def test_values_without_stable_text_are_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="key cannot contain"):
        canonical(value)


@given(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()))
def test_order_never_counts(values: dict[str, Any]) -> None:
    assert digest(values) == digest(dict(reversed(values.items())))


def test_paths_and_tuples_have_one_spelling() -> None:
    assert digest((1, 2), Path("a/b")) == digest([1, 2], "a/b")
    assert digest(-0.0) == digest(0.0)
    assert digest(1) != digest(1.0) != digest("1")


def test_a_back_end_that_moved_to_another_class_redoes_nothing() -> None:
    assert key(eye=spec(backend="tests.core.test_keys:Moved")) == key()


def test_two_back_ends_cannot_share_a_name_by_inheritance() -> None:
    with pytest.raises(ConfigError, match=r"test_keys:Inherited: .*`name` \(str\) of its own"):
        key(eye=spec(backend="tests.core.test_keys:Inherited"))
