"""YAML that is small and stands for much, is deep, is no text, or is only almost YAML."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from ffpdata.core import yaml_text
from ffpdata.core.config import load_pipeline
from ffpdata.core.entries import assignment, read
from ffpdata.core.errors import ConfigError, UsageError
from ffpdata.core.prompt import Prompt

LEVELS = "abcdefghij"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in pairwise(LEVELS)
)
WRONG = {
    "bomb": (BOMB, "line 6: with its aliases it stands for more than 200000 values"),
    "merged": (BOMB.replace("[", "{p: ").replace(", ", ", q: ").replace("]", "}"), "not valid YAML"),
    "flow": ("a: " + "[" * 100_000, "more than 40 mappings and lists lie in each other"),
    "maps": ("{a: " * 30_000, "more than 40 mappings"),
    "block": ("- " * 30_000 + "x", "more than 40 mappings"),
    "indented": ("".join(f"{' ' * depth}a:\n" for depth in range(300)), "line 41: more than 40 mappings"),
    "itself": ("a: &a [1, *a]", "stands within itself"),
    "unknown": ("a: *b", "undefined alias"),
    "digits": (f"a: {'9' * 5000}", "a number in it is too long"),
    "date": ("a: 2024-99-99", "a date or time is none"),
    "code": ("a: !!python/object/apply:os.system [exit 3]", "could not determine a constructor"),
    "two": ("a: 1\n---\na: 2\n", "it has 2 with ---"),
    "cut": ("a: [1, 2", "expected"),
    "bytes": (b"\xff\xfe\x00a", "byte 0 is no UTF-8"),
    "control": ("a: \x00", "not valid YAML"),
    "long": ("a: 1\n" + "#" * (1 << 20), "longer than 1024 KB"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_is_one_message_within_a_second(tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    file, began = tmp_path / "x.yaml", time.process_time()
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    for reader in (read, Prompt.load, load_pipeline, lambda path: load_pipeline("local_editing", str(path))):
        with pytest.raises(ConfigError, match=r"x\.yaml: not valid YAML") as caught:
            reader(file)  # type: ignore[operator]
        assert message in str(caught.value)
        assert len(str(caught.value)) < 1000
    if isinstance(text, str) and name not in ("two", "long"):
        with pytest.raises(UsageError, match="is not valid YAML"):
            assignment(f"clip={text}")
    assert time.process_time() - began < 3, "of five readings"


def test_what_people_write_is_read(tmp_path: Path) -> None:
    text = "a: &a {b: 1}\nc: {<<: *a, d: [*a, *a]}\n"
    assert yaml_text.load(text) == {"a": {"b": 1}, "c": {"b": 1, "d": [{"b": 1}, {"b": 1}]}}
    long = "".join(f"k{n}: [{n}, {{deep: {n}}}]\n" for n in range(2000))
    assert len(yaml_text.load(long)) == 2000
    assert yaml_text.load("") is None
    assert yaml_text.load_all("---\na: 1\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("path", ["os:system", "subprocess:Popen", "builtins:exec", "pathlib:Path", "os:environ"])
def test_what_is_no_stage_and_no_back_end_is_never_called(tmp_path: Path, path: str) -> None:
    (tmp_path / "x.yaml").write_text(f"name: x\ntrack: t\nstages: ['{path}']\n")
    with pytest.raises(ConfigError, match=r"x\.yaml:3: .* is no stage but"):
        load_pipeline(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match=r"models\.remover: .*(is no class|a back end needs)"):
        load_pipeline("local_editing", overrides=[f"models.remover={{backend: '{path}', model: 'touch {tmp_path}/x'}}"])
    made = load_pipeline("local_editing")
    entries = [made.stages[0].model_copy(update={"use": path}), *made.stages[1:]]
    with pytest.raises(ConfigError, match="is no stage but"):
        made.model_copy(update={"stages": entries}).build()
    models = made.models | {"remover": made.models["remover"].model_copy(update={"backend": path})}
    stage = next(s for s in made.model_copy(update={"models": models}).build() if s.name == "synthesize")
    with pytest.raises(ConfigError, match=r"is no class|a back end needs"):
        stage.model("remover")
