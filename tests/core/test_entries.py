"""What lies over what: every section of a profile, laid over the one before it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ffpdata.core.config import Pipeline, load_pipeline
from ffpdata.core.errors import ConfigError

OWN = {"backend": "ffpdata.models.classical.remover:TemporalFill", "model": "mine", "licence": "MIT"}
ROLES = {
    *("vision_language", "segmenter", "remover", "swapper"),
    *("image_to_video", "depth_estimator", "stylizer", "propagator", "image_editor"),
}


def over(folder: Path, profile: str, overlay: dict, *overrides: str, pipeline: str = "local_editing") -> Pipeline:
    (folder / "mine.yaml").write_text(yaml.safe_dump(overlay))
    return load_pipeline(pipeline, f"{profile},{folder / 'mine.yaml'}", overrides)


@pytest.mark.parametrize("pipeline", ["local_editing", "stylization"])
@pytest.mark.parametrize("profile", ["cpu", "gpu", "small"])
def test_the_roles_that_an_overlay_does_not_name_stay(tmp_path: Path, profile: str, pipeline: str) -> None:
    made = over(tmp_path, profile, {"models": {"remover": OWN}}, pipeline=pipeline)
    before = load_pipeline(pipeline, profile).models
    assert set(made.models) == ROLES | ({"tuned_propagator"} if profile != "cpu" else set())
    assert {role: spec for role, spec in made.models.items() if role != "remover"} == {
        role: spec for role, spec in before.items() if role != "remover"
    }
    # The named one is replaced whole: settings, runtime and revision of another model mean nothing to it.
    assert made.models["remover"].model_dump(exclude_defaults=True) == OWN
    assert made.profile == f"{profile},mine"


def test_what_a_refinement_promoted(tmp_path: Path) -> None:
    promoted = load_pipeline("local_editing", "gpu").models["remover"]
    lora = promoted.model_copy(update={"settings": promoted.settings | {"loras": [{"model": "/round-1/lora"}]}})
    overlay = {"name": "refined", "models": {"remover": lora.model_dump(mode="json", exclude_none=True)}}
    made = over(tmp_path, "gpu", overlay)
    assert made.models["remover"] == lora
    assert made.models["swapper"] == promoted
    assert all(s.specs.keys() == set(s.models) - set(s.optional_models) for s in made.build())


def test_two_overlays_in_turn(tmp_path: Path) -> None:
    (tmp_path / "second.yaml").write_text(yaml.safe_dump({"models": {"swapper": OWN, "remover": OWN | {"model": "2"}}}))
    (tmp_path / "first.yaml").write_text(yaml.safe_dump({"models": {"remover": OWN | {"runtime": {"a": 1}}}}))
    made = load_pipeline("local_editing", f"cpu,{tmp_path}/first.yaml,{tmp_path}/second.yaml").models
    assert (made["remover"].model, made["remover"].runtime, made["swapper"].model) == ("2", {}, "mine")
    assert set(made) == ROLES


def test_other_sections_merge_entry_by_entry(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(
        yaml.safe_dump({"resources": {"segment": {"cpus": 2, "timeout": 60}}, "curate": {"seed": 3}})
    )
    overlay = {
        "resources": {"segment": {"cpus": 4}, "verify": {"cpus": 3}},
        "curate": {"variants": "all"},
        "clip": {"frames": 33},
        "stages": {"measure": {"limits": {"removal": {"flicker": {"max": 9}}}}},
    }
    made = over(tmp_path, f"cpu,{tmp_path}/first.yaml", overlay)
    resources = {name: settings.model_dump(exclude_none=True) for name, settings in made.resources.items()}
    assert resources == {"segment": {"cpus": 4, "timeout": 60}, "verify": {"cpus": 3}}
    assert (made.curate.seed, made.curate.variants, made.clip["frames"], made.clip["width"]) == (3, "all", 33, 1280)
    removal = next(entry.settings for entry in made.stages if entry.name == "measure")["limits"]["removal"]
    assert removal["flicker"]["max"] == 9
    assert {"psnr_outside", "unrevealed", "warp_error"} <= set(removal)


def test_what_an_alias_gave_two_roles_is_changed_in_one(tmp_path: Path) -> None:
    """The profile `gpu` names one model for remover and swapper by `*vace`."""
    made = load_pipeline("local_editing", "gpu", ["models.remover.settings.steps=4"]).models
    assert (made["remover"].settings["steps"], made["swapper"].settings["steps"]) == (4, 50)


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"models": {"remvoer": OWN}}, r"mine\.yaml:2: no stage has a model 'remvoer'; did you mean 'remover'\?"),
        ({"stages": {"verfy": {}}}, r"mine\.yaml:2: stages: no stage 'verfy'; did you mean 'verify'\?"),
        ({"resources": {"verfy": {"cpus": 1}}}, r"mine\.yaml:2: resources: no stage 'verfy'; did you mean 'verify'\?"),
        ({"prompts": {"verfy": "a.yaml"}}, r"mine\.yaml:2: no stage asks 'verfy'; did you mean 'verify'\?"),
        ({"prompts": ["a.yaml"]}, r"`prompts` maps a question to its file, found \['a.yaml'\]"),
        ({"stages": ["verify"]}, r"mine\.yaml: a profile's `stages` maps a stage's name to settings"),
        ({"models": {"remover": {"model": "a"}}}, r"models\.remover\.backend: is missing"),
        ({"models": {"remover": None}}, r"models\.remover: "),
        ({"models": "none"}, r"models: must be a section with entries"),
    ],
)
def test_what_nothing_knows_is_refused(tmp_path: Path, overlay: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        over(tmp_path, "cpu", overlay)


def test_what_another_pipeline_has_is_no_error(tmp_path: Path) -> None:
    overlay = {"models": {"remover": OWN}, "stages": {"verify": {"min_score": 8}, "screen": {"min_score": 6}}}
    made = over(tmp_path, "cpu", overlay, pipeline="stylization")
    assert next(entry.settings for entry in made.stages if entry.name == "verify")["min_score"] == 8


def test_a_question_is_replaced_by_a_file_beside_the_profile(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "prompts/identify.yaml").read_text()
    (tmp_path / "identify.yaml").write_text(text.replace("first frame", "FIRST frame"))
    shipped = load_pipeline("local_editing").prompts["identify"]["text"]
    assert over(tmp_path, "cpu", {}).prompts["identify"]["text"] == shipped, "a name is ffpdata's own"
    made = over(tmp_path, "cpu", {"prompts": {"identify": "identify.yaml"}})
    assert "FIRST frame" in made.prompts["identify"]["text"]
    with pytest.raises(
        ConfigError, match=rf"mine\.yaml:2: stage 'identify': no prompt 'absent\.yaml': .* not in {tmp_path}, "
    ):
        over(tmp_path, "cpu", {"prompts": {"identify": "absent.yaml"}})
