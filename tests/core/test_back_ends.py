"""Several back ends behind one role: a list in `models`, one entry for each, and what of it counts in keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import ConfigError
from ffpdata.core.resources import ResourceSettings, held_together
from ffpdata.models.classical.remover import TemporalFill

FILL = "ffpdata.models.classical.remover:TemporalFill"
RECOLOUR = "ffpdata.models.classical.swapper:Recolour"
TWO = f"""\
models:
  remover:
    - backend: {FILL}
      resources: {{memory_gb: 3, gpu_memory_gb: 10, seconds: 5}}
    - backend: {RECOLOUR}
      name: painted
      resources: {{memory_gb: 2, gpu_memory_gb: 4, seconds: 9, gpus: 1}}
"""


@pytest.fixture
def load(tmp_path: Path):
    def _load(profile: str = TWO, *overrides: str, pipeline: str = "local_editing", **more: Any):
        (tmp_path / "two.yaml").write_text(profile)
        return load_pipeline(pipeline, f"cpu,{tmp_path / 'two.yaml'}", overrides, **more)

    return _load


def stage(pipeline, name: str):
    return next(stage for stage in pipeline.build() if stage.name == name)


def test_each_has_its_place_and_each_edit_is_proposed_for_each(load) -> None:
    made = load()
    assert [role for role in made.models if role.startswith("remover")] == ["remover/temporal_fill", "remover/painted"]
    assert stage(made, "propose").settings.back_ends == {"remover": ["temporal_fill", "painted"]}
    assert set(stage(made, "synthesize").specs) == {"remover/temporal_fill", "remover/painted", "swapper"}
    assert stage(load(pipeline="stylization"), "stylize").specs.keys() == {"stylizer"}, (
        "a profile serves every pipeline"
    )


def test_an_edit_s_key_is_the_same_alone_and_beside_others(load) -> None:
    row = {"task": "removal", "caption": "A dog.", "object": "dog", "seed": 7}
    alone, both = stage(load_pipeline("local_editing"), "synthesize"), stage(load(), "synthesize")
    fill, painted = row | {"back_end": "temporal_fill"}, row | {"back_end": "painted"}
    assert both.roles(painted) == ("remover/painted",)
    assert both.key_of(fill) == alone.key_of(row) != both.key_of(painted)
    assert both.fixed_key(both.models) != alone.fixed_key(alone.models), "a start sees that there is one more"


def test_without_lists_nothing_is_said_of_them() -> None:
    assert "back_ends" not in stage(load_pipeline("local_editing"), "propose").settings.model_dump(mode="json")


def test_a_worker_holds_all_of_them(load) -> None:
    held = stage(load(), "synthesize").resources
    assert (held.memory_gb, held.gpu_memory_gb, held.gpus, held.seconds) == (5, 14, 1, 9)
    assert held_together([]) is None
    both = held_together([ResourceSettings(concurrency=8, cpus=2), ResourceSettings(concurrency=2)])
    assert both == ResourceSettings(concurrency=2, cpus=2)


def test_models_of_one_checkpoint_share_its_weights() -> None:
    vace = stage(load_pipeline("local_editing", "gpu"), "synthesize").resources
    assert (vace.memory_gb, vace.gpu_memory_gb) == (16, 73)


def test_one_of_them_is_set_by_its_name(load) -> None:
    made = load(TWO, "models.remover/painted.settings.min_delta_e=3")
    assert made.models["remover/painted"].settings == {"min_delta_e": 3}
    again = load(TWO, f"models.remover={{backend: '{FILL}'}}")
    assert [role for role in again.models if role.startswith("remover")] == ["remover"]
    of_one = load(f"models: {{remover: [{{backend: '{FILL}'}}]}}")
    assert of_one.models["remover"].backend == FILL
    assert stage(of_one, "propose").settings.back_ends == {}


def test_from_python(load) -> None:
    named = {"backend": FILL, "name": "soft", "settings": {"reach": 3}}
    made = load_pipeline("local_editing", models={"remover": [TemporalFill, named]})
    assert list(stage(made, "synthesize").specs)[:2] == ["remover/temporal_fill", "remover/soft"]


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("models: {remover: []}", r"two.yaml:1: models.remover is an empty list"),
        ("models: {remover: [vace]}", r"two.yaml:1: models.remover: each of several is a mapping with `backend`"),
        (TWO.replace("painted", "temporal_fill"), r"two.yaml:5: .* two of its back ends are called 'temporal_fill'"),
        (TWO.replace("painted", "a/b"), r"two.yaml:5: .*'a/b' is to be part of item ids"),
        (
            TWO.replace("name:", "nmae:"),
            r"two.yaml:6: unknown entry 'models.remover/recolour.nmae'; did you mean 'name'",
        ),
        (TWO.replace(RECOLOUR, "nowhere:Model"), r"two.yaml:5: models.remover/painted: cannot import 'nowhere'"),
        (
            TWO.replace("remover", "segmenter"),
            r"two.yaml:2: models.segmenter takes one back end, .* remover and swapper",
        ),
        (TWO + "stages: {propose: {back_ends: {}}}\n", r"two.yaml:8: propose.back_ends follows from the lists"),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(load, profile: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(profile)


def test_a_setting_of_which_one(load) -> None:
    with pytest.raises(ConfigError, match=r"models.remover has several .*, e.g. models.remover/temporal_fill"):
        load(TWO, "models.remover.settings.radius=3")
    with pytest.raises(ConfigError, match=r"models: no 'remover/paint'; did you mean 'remover/painted'"):
        load(TWO, "models.remover/paint.settings.radius=3")
    with pytest.raises(ConfigError, match=r"models: no 'remover/painted'; did you mean 'remover'"):
        load_pipeline("local_editing", None, ["models.remover/painted.settings.radius=3"])
