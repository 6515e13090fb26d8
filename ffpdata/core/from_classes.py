"""Pipelines, stages and models given as Python objects, turned into what a pipeline file would say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from ffpdata.core.errors import ConfigError, nearest
from ffpdata.core.plugins import import_path
from ffpdata.core.stage import ModelSpec, Stage, StageSettings
from ffpdata.core.wording import fault


def stage_entry(stage: Any) -> str | dict[str, dict[str, Any]]:
    """Return the entry that a pipeline file would have for a stage, in any form that `Pipeline.of` takes.

    Raises:
        ConfigError: it is none of them, or a class that cannot be imported.
    """
    if isinstance(stage, tuple) and len(stage) == 2:
        use, settings = stage
        if isinstance(settings, StageSettings):
            settings = _given(settings)
        return {_use(use): dict(settings)}
    if isinstance(stage, Mapping):
        return {_use(use): dict(settings or {}) for use, settings in stage.items()}
    if isinstance(stage, Stage):
        return {_use(type(stage)): _given(stage.settings)}
    return _use(stage)


def _use(stage: Any) -> str:
    if isinstance(stage, str):
        return stage
    if isinstance(stage, type) and issubclass(stage, Stage):
        return import_path(stage)
    raise ConfigError(
        f"{stage!r} is no stage: give a class, an instance, a name such as 'ingest', or a pair of one and its settings"
    )


def _given(settings: StageSettings) -> dict[str, Any]:
    """What was set: a pipeline's `clip` still reaches a stage that was told nothing of it."""
    return settings.model_dump(mode="json", exclude_unset=True)


def specs_of(models: Mapping[str, Any] | None) -> dict[str, ModelSpec | list[ModelSpec]]:
    """Return the spec of every role, or the list of them where a role is given several back ends."""
    return {
        role: [spec_of(role, each) for each in model] if isinstance(model, (list, tuple)) else spec_of(role, model)
        for role, model in (models or {}).items()
    }


def spec_of(role: str, model: Any) -> ModelSpec:
    """Return the spec of a model, in any form that `Pipeline.of` takes.

    Raises:
        ConfigError: it is none of them, or has an entry that no profile has.
    """
    if isinstance(model, ModelSpec):
        return model
    if isinstance(model, type):
        return ModelSpec.of(model)
    if isinstance(model, str):
        return ModelSpec(backend=model)
    if not isinstance(model, Mapping):
        raise ConfigError(f"models.{role}: give a class, its import path, a mapping or a ModelSpec, not {model!r}")
    try:
        return ModelSpec.model_validate(model)
    except ValidationError as err:
        [first, *_] = err.errors()
        entry = ".".join(str(part) for part in first["loc"])
        wrong = first["type"] == "extra_forbidden"
        why = f"no entry {entry!r}{nearest(entry, ModelSpec.model_fields)}" if wrong else f"{entry}: {fault(first)}"
        raise ConfigError(f"models.{role}: {why}") from None


def override_texts(overrides: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return overrides as the `a.b=c` texts of `--set`."""
    if isinstance(overrides, str):
        return [overrides]
    if not isinstance(overrides, Mapping):
        return list(overrides)
    return [f"{path}={_flow(value)}" for path, value in _leaves(overrides)]


def _leaves(overrides: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Entries to set. A dotted name sets its value whole, as a model is set whole; other mappings are gone into."""
    for name, value in overrides.items():
        path = (*above, str(name))
        whole = "." in str(name) or (path[0] == "models" and len(path) > 1) or not value
        if isinstance(value, Mapping) and not whole:
            yield from _leaves(value, path)
        else:
            yield ".".join(path), value


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, ModelSpec):
        value = value.model_dump(mode="json", exclude_defaults=True)
    try:
        text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    except yaml.YAMLError:
        raise ConfigError(f"an override must be a plain value (text, number, list, mapping), not {value!r}") from None
    return text.removesuffix("...\n").strip()
