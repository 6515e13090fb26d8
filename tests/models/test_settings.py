"""A misspelt entry of a model is refused, whatever its back end declares."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from ffpdata.core.errors import ConfigError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.settings import BackendSettings, check


class Bare:
    """Declares nothing."""


class StrengthSettings(BackendSettings):
    strength: float = 1.0


class Strict:
    Settings = StrengthSettings


class PlainSettings(BaseModel):
    strength: float = 1.0


class Plain:
    """A model of pydantic's own, which would ignore what it does not know."""

    Settings = Runtime = PlainSettings


class OpenSettings(BaseModel):
    model_config = ConfigDict(extra="allow")


class Open:
    """Says that it takes anything."""

    Settings = OpenSettings


def spec(backend: type, **sections: dict[str, Any]) -> ModelSpec:
    return ModelSpec(backend=f"{__name__}:{backend.__name__}", **sections)


@pytest.mark.parametrize("section", ["settings", "runtime"])
def test_a_back_end_that_declares_nothing_takes_nothing(section: str) -> None:
    check(spec(Bare))
    message = rf"^{section} of .*:Bare: no entry 'strength': this back end takes none.*`{section.title()}`$"
    with pytest.raises(ConfigError, match=message):
        check(spec(Bare, **{section: {"strength": 0.5}}))


@pytest.mark.parametrize("backend", [Strict, Plain])
def test_a_misspelt_entry_names_the_nearest(backend: type) -> None:
    check(spec(backend, settings={"strength": 0.5}))
    with pytest.raises(ConfigError, match=r"no entry 'strenght'; did you mean 'strength'\?"):
        check(spec(backend, settings={"strenght": 0.5}))


def test_a_back_end_may_take_anything() -> None:
    check(spec(Open, settings={"whatever": 1}))


CLASSICAL = [
    "vision_language.template_vision:TemplateVision",
    "segmenter.motion_segmenter:MotionSegmenter",
    "remover:TemporalFill",
    "swapper:Recolour",
    "image_to_video:ParallaxAnimator",
    "depth_estimator:PseudoDepth",
    "stylizer.magenta_style:MagentaStylizer",
]


@pytest.mark.parametrize("name", CLASSICAL)
def test_the_embedded_ones_say_what_they_take(name: str) -> None:
    backend = f"ffpdata.models.classical.{name}"
    fields = ModelSpec(backend=backend).load_class().Settings.model_fields
    check(ModelSpec(backend=backend, settings={field: info.default for field, info in fields.items()}))
    with pytest.raises(ConfigError, match="no entry 'zzz'"):
        check(ModelSpec(backend=backend, settings={"zzz": 1}))
