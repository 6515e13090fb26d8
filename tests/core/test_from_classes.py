"""Pipelines of Python objects say the same as pipeline files."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from ffpdata.core.config import Pipeline, load_pipeline
from ffpdata.core.errors import ConfigError, UsageError
from ffpdata.core.from_classes import override_texts
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec, Stage, import_object
from ffpdata.models.classical.remover import TemporalFill
from ffpdata.stages.caption import Caption
from tests.toys import Read, Upper, UpperSettings

CLIP = {"width": 320, "height": 192, "frames": 33}


@pytest.mark.parametrize(
    "stage",
    [(Upper, {"mark": "?"}), (Upper, UpperSettings(mark="?")), Upper(mark="?"), {"tests.toys:Upper": {"mark": "?"}}],
    ids=["class and settings", "class and object", "instance", "mapping"],
)
def test_a_stage_in_every_form(stage: Any) -> None:
    pipeline = Pipeline.of([Read, stage])
    assert [entry.model_dump(exclude={"code"}) for entry in pipeline.stages] == [
        {"name": "read", "use": "tests.toys:Read", "settings": {}},
        {"name": "upper", "use": "tests.toys:Upper", "settings": {"mark": "?"}},
    ]
    assert (pipeline.name, pipeline.track) == ("custom", "custom")
    assert pipeline.build()[1].settings.mark == "?"


def test_it_equals_the_file() -> None:
    size = [f"clip.{name}={value}" for name, value in CLIP.items()]
    shipped = load_pipeline("local_editing", "cpu", size)
    stages = [(entry.name, entry.settings) for entry in shipped.stages]
    entries = {"clip": shipped.clip, "curate": shipped.curate.model_dump(), "about": shipped.about}
    again = Pipeline.of(stages, name="local_editing", track="local", profile="cpu", **entries)
    assert again == shipped


def test_an_instance_still_gets_the_clip_of_the_pipeline() -> None:
    from ffpdata.stages.ingest import Ingest

    ingest = Pipeline.of(["source", Ingest(min_side=96)], clip=CLIP).stages[1]
    assert ingest.settings["min_side"] == 96
    assert ingest.settings["clip"] | CLIP == ingest.settings["clip"]


def test_models_lie_over_the_profile() -> None:
    other = ModelSpec.of(TemporalFill, licence="MIT")
    pipeline = Pipeline.of(["source"], profile="cpu", models={"remover": other, "mine": TemporalFill})
    assert pipeline.models["remover"] == other
    assert pipeline.models["mine"].backend == "ffpdata.models.classical.remover:TemporalFill"
    assert pipeline.models["segmenter"] == load_pipeline("local_editing", "cpu").models["segmenter"]
    assert (
        load_pipeline("local_editing", models={"remover": {"backend": other.backend}}).models["remover"].licence == ""
    )


def test_a_prompt_as_an_object() -> None:
    prompt = Prompt("caption", "What is it?", {"type": "object"})
    [_, stage] = Pipeline.of(["source", Caption], prompts={"caption": prompt}).build()
    assert stage.questions == {"caption": prompt}


@pytest.mark.parametrize(
    ("stages", "entries", "said"),
    [
        (["sorce"], {}, "no stage 'sorce'; did you mean 'source'?"),
        ([Read, Read], {}, "stage 'read' stands in the pipeline twice"),
        ([7], {}, "7 is no stage: give a class, an instance"),
        ([Stage], {}, "Stage: a stage needs a class attribute `name`"),
        ([(Upper, {"marc": 1})], {}, "unknown entry 'stages.upper.marc'; did you mean 'mark'?"),
        ([Read], {"clip": {"width": 7}}, None),
        ([Read], {"curate": {"variant": "all"}}, "unknown entry 'curate.variant'; did you mean 'variants'?"),
        ([Read], {"models": {"remover": 7}}, "models.remover: give a class"),
        (
            [Read],
            {"models": {"remover": {"backend": "a:B", "setings": {}}}},
            "no entry 'setings'; did you mean 'settings'",
        ),
        ([Read], {"overrides": {"uper.mark": "?"}}, "no section or stage 'uper'"),
    ],
)
def test_what_is_wrong_is_named(stages: list[Any], entries: dict[str, Any], said: str | None) -> None:
    if said is None:  # no stage takes a clip, so nothing is wrong
        assert Pipeline.of(stages, **entries).clip == {"width": 7}
        return
    with pytest.raises(ConfigError) as error:
        Pipeline.of(stages, **entries)
    assert said in str(error.value)


def test_a_misspelt_setting_of_an_instance() -> None:
    with pytest.raises(ConfigError, match="stage 'upper': marc: the stage has no such setting; did you mean 'mark'"):
        Upper(marc="?")
    with pytest.raises(ConfigError, match=r"stage 'upper': mark: .*\(got 7\)"):
        Upper(mark=7)


def test_a_class_inside_a_function_is_refused() -> None:
    class Local(Read):
        name = "local"

    with pytest.raises(ConfigError, match=r"define the class at the top level of a module, script or notebook cell"):
        Pipeline.of([Local])


def test_a_class_that_was_defined_again(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Read
    monkeypatch.setattr(sys.modules[Read.__module__], "Read", type("Read", (Read,), {}))
    with pytest.raises(ConfigError, match=r"tests\.toys:Read names another class by now"):
        Pipeline.of([old])


def test_classes_of_the_main_module_are_told() -> None:
    pipeline = Pipeline.of([Read])
    assert pipeline.interactive == []
    pipeline.models["x"] = ModelSpec(backend="__main__:Tiny")
    assert pipeline.interactive == ["__main__:Tiny"]
    with pytest.raises(ConfigError, match=r"'__main__:Tiny' was defined in a notebook.*e\.g\. tiny\.py"):
        import_object("__main__:Tiny")


def test_overrides_as_a_mapping() -> None:
    given = {
        "clip.frames": 49,
        "verify": {"min_score": 9.5},
        "measure": {"limits": {"removal": {"flicker": {"max": 2}}}},
        "curate": {"splits": {"train": 0.5}},
        "models": {"remover": {"backend": "a:B", "settings": {"steps": 3}}},
        "screen.note": "yes: no, [x",
    }
    assert override_texts(given) == [
        "clip.frames=49",
        "verify.min_score=9.5",
        "measure.limits.removal.flicker.max=2",
        "curate.splits.train=0.5",
        "models.remover={backend: 'a:B', settings: {steps: 3}}",
        "screen.note='yes: no, [x'",
    ]
    assert override_texts("clip.frames=49") == ["clip.frames=49"]
    assert override_texts(["a=1", "b=2"]) == ["a=1", "b=2"]


def test_a_mapping_sets_the_same_as_texts() -> None:
    texts = ["clip.frames=49", "verify.min_score=9.5", "curate.splits={train: 1.0}"]
    mapping = {"clip": {"frames": 49}, "verify": {"min_score": 9.5}, "curate.splits": {"train": 1.0}}
    assert load_pipeline("local_editing", None, mapping) == load_pipeline("local_editing", None, texts)
    with pytest.raises(UsageError, match="no section or stage 'verfy'; did you mean 'verify'"):
        load_pipeline("local_editing", None, {"verfy": {"min_score": 1}})
    with pytest.raises(ConfigError, match="an override must be a plain value"):
        load_pipeline("local_editing", None, {"verify.min_score": object()})
