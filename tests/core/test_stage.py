"""The contract: what a stage sees of a row, what its model is, and what counts in its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.stage import ModelSpec, Resources, ResourceSettings, Row, Stage, StageSettings, import_object


class Named:
    name, version = "named", 3

    def __init__(self, spec: ModelSpec) -> None:
        self.spec, self.closed = spec, False

    def close(self) -> None:
        self.closed = True


class Nameless(Named):
    """Inherits its name, which is another class's."""


class Unversioned:
    name, version = "unversioned", "1"


class Works(Stage):
    name, version = "works", 1
    models = ("one", "two", "three")

    class Settings(StageSettings):
        gain: float = 1.0


def spec(backend: str = "Named", **more: object) -> ModelSpec:
    return ModelSpec(backend=f"{__name__}:{backend}", **more)


def test_a_row_is_read_by_its_columns_and_says_what_is_missing() -> None:
    row = Row({"a": 1, "file": "x.mp4", "empty": "", "none": None}, item_id="i")
    assert (row["a"], row.get("b", 7), len(row), "a" in row) == (1, 7, 4, True)
    with pytest.raises(KeyError, match="no column 'b' in the row: the stage must declare it"):
        row["b"]
    assert row.file("file") == Path("x.mp4")
    for name in ("a", "empty", "none", "b"):
        with pytest.raises(KeyError, match=f"row 'i' has no file in column '{name}'"):
            row.file(name)


def test_inputs_lie_below_the_root_and_remote_ones_are_fetched() -> None:
    assert Row({"root": "/data"}).input("a/b.mp4") == Path("/data/a/b.mp4")
    asked = []

    def fetch(url: str, most: float) -> Path:
        asked.append((url, most))
        return Path("/tmp/b")

    assert Row({"root": "s3://bucket/in"}, open_input=fetch).input("b.mp4", 10.0) == Path("/tmp/b")
    assert asked == [("s3://bucket/in/b.mp4", 10.0)]
    with pytest.raises(RuntimeError, match="without a workspace"):
        Row({"root": "s3://bucket/in"}).input("b.mp4")
    with pytest.raises(RuntimeError, match="without a workspace"):
        Row({}).new_file("target")


def test_roles_of_one_spec_share_a_model_and_others_do_not() -> None:
    stage = Works(None, {"one": spec(), "two": spec(), "three": spec(runtime={"device": "cpu"}), "four": spec()})
    assert set(stage.specs) == {"one", "two", "three"}, "a role that the stage does not use is not its own"
    stage.setup()
    assert stage.model("one") is stage.model("two") is not stage.model("three")
    models = [stage.model(role) for role in stage.models]
    stage.teardown()
    assert all(model.closed for model in models)
    with pytest.raises(FatalError, match="role 'two': add it under `models`"):
        Works(None, {"one": spec()}).model("two")


def test_what_shapes_the_answer_counts_in_the_key_and_nothing_else() -> None:
    def key(own: StageSettings | None = None, **more: object) -> str:
        return Works(own, {"one": spec(**more)}).fixed_key(("one",))

    assert key() == key(runtime={"device": "cuda"}, resources=ResourceSettings(gpus=1), licence="MIT")
    others = [key(Works.Settings(gain=2)), key(model="m"), key(revision="r"), key(settings={"steps": 1})]
    assert len({key(), *others}) == 5
    assert Works(None, {"one": spec(), "two": spec(model="m")}).fixed_key(("one",)) == key(), "an unused role"


def test_a_back_end_without_a_name_or_version_of_its_own_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a class attribute `name`"):
        spec("Nameless").identity()
    with pytest.raises(ConfigError, match=r"needs a class attribute `version` \(int\), found '1'"):
        spec("Unversioned").identity()


def test_a_label_names_model_and_revision_and_no_comma() -> None:
    assert spec().label == "named@3"
    assert spec(model="owner/a, b", revision="r1").label == "owner/a b@r1"
    assert spec(model="owner/a, b").named_by("owner/a b@r2+removal@ab")
    assert spec().named_by("named@2")
    assert not spec().named_by("name@2")


def test_resources_are_laid_over_one_another_and_gpus_are_whole() -> None:
    base = Resources(cpus=2, memory_gb=4)
    laid = base.overlaid(None, ResourceSettings(gpus=0.5), ResourceSettings(gpus=2, cpus=0))
    assert (laid.cpus, laid.gpus, laid.memory_gb) == (0, 2, 4)
    with pytest.raises(ValidationError, match="ask for whole GPUs"):
        Resources(gpus=1.5)
    with pytest.raises(ValidationError):
        Resources(gpu=1)


def test_an_import_path_says_what_is_wrong_with_it() -> None:
    assert import_object(f"{__name__}:Named") is Named
    with pytest.raises(ConfigError, match=r"write package\.module:Class"):
        import_object("ffpdata.core.stage")
    with pytest.raises(ConfigError, match="has no 'Stge'"):
        import_object("ffpdata.core.stage:Stge")
    with pytest.raises(ConfigError, match=r"ffpdata\.core\.nothing"):
        import_object("ffpdata.core.nothing:Stage")


def test_a_stage_that_overrides_nothing_says_so() -> None:
    for call in (Works().process, Works().expand):
        with pytest.raises(NotImplementedError, match="'works' overrides neither"):
            call(Row({}))
