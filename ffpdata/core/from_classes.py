"""Pipelines, stages and models given as Python objects, turned into what a pipeline file would say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from ffpdata.core.config import Pipeline, assemble
from ffpdata.core.errors import ConfigError, nearest
from ffpdata.core.stage import INTERACTIVE, ModelSpec, Stage, StageSettings, import_path


def pipeline_of(
    stages: Sequence[Any],
    *,
    name: str = "custom",
    track: str = "",
    profile: str | None = None,
    models: Mapping[str, Any] | None = None,
    prompts: Mapping[str, Any] | None = None,
    clip: Mapping[str, Any] | None = None,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - it is called so in a pipeline file
    curate: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    max_attempts: int = 3,
    about: str = "",
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> Pipeline:
    """Make a checked pipeline from Python classes.

    A class of a notebook or script (`__main__`) works in its own process and on Ray. Another process, such as the
    `ffpdata` command on the same run folder, cannot import it and says so.

    Args:
        stages: in order, each a stage's class, an instance (`Blur(radius=9)`), a pair of a class or name and its
            settings, the name of a stage that comes with ffpdata (`"ingest"`), or `"package.module:Class"`.
        name: of the pipeline.
        track: that rows carry; by default `name`. Pipelines of different tracks may share a run folder.
        profile: name or path of the profile whose models the stages use; none by default.
        models: roles that the profile does not fill, or that are to be filled otherwise: a back end's class, its
            import path, a profile's mapping or a `ModelSpec`.
        prompts: questions of one's own: prompt name to a `Prompt`, a name or a path.
        clip: size, rate and length of clips: `width`, `height`, `fps`, `frames`.
        input: how the input is read, e.g. `{"kind": "styled"}`.
        curate: what happens to finished pairs.
        resources: per stage what its workers get.
        max_attempts: how often an item that raises `RetryableError` is tried.
        about: one line for the report.
        overrides: as in `load_pipeline`.

    Raises:
        ConfigError: with the value and the nearest valid name.
    """
    data: dict[str, Any] = {
        "name": name,
        "track": track or name,
        "about": about,
        "stages": [stage_entry(stage) for stage in stages],
        "max_attempts": max_attempts,
    }
    sections = {"prompts": prompts, "clip": clip, "input": input, "curate": curate, "resources": resources}
    data |= {section: dict(given) for section, given in sections.items() if given}
    roles = {role: spec_of(role, model) for role, model in (models or {}).items()}
    texts = override_texts(overrides)
    return assemble(data, {}, f"pipeline {name!r}", profile=profile, overrides=texts, models=roles)


def stage_entry(stage: Any) -> str | dict[str, dict[str, Any]]:
    """Return the entry that a pipeline file would have for a stage, in any form that `pipeline_of` takes.

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
        if not isinstance(getattr(stage, "name", None), str):
            raise ConfigError(f"{stage.__qualname__}: a stage needs a class attribute `name`, e.g. name = 'my_stage'")
        return import_path(stage)
    raise ConfigError(
        f"{stage!r} is no stage: give a class, an instance, a name such as 'ingest', or a pair of one and its settings"
    )


def _given(settings: StageSettings) -> dict[str, Any]:
    """What was set: a pipeline's `clip` still reaches a stage that was told nothing of it."""
    return settings.model_dump(mode="json", exclude_unset=True)


def spec_of(role: str, model: Any) -> ModelSpec:
    """Return the spec of a model, in any form that `pipeline_of` takes.

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
        why = f"no entry {entry!r}{nearest(entry, ModelSpec.model_fields)}" if wrong else f"{entry}: {first['msg']}"
        raise ConfigError(f"models.{role}: {why}") from None


def interactive_classes(pipeline: Pipeline) -> list[str]:
    """Return the import paths of its classes of a notebook or script, which no other process can import."""
    paths = [entry.use for entry in pipeline.stages] + [spec.backend for spec in pipeline.models.values()]
    return [path for path in paths if path.startswith(f"{INTERACTIVE}:")]


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
