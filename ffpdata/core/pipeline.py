"""A resolved pipeline: its stages, models and questions with every setting, as `run.yaml` keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ffpdata.core.errors import ConfigError
from ffpdata.core.from_classes import override_texts, specs_of, stage_entry
from ffpdata.core.keys import digest
from ffpdata.core.pipeline_check import stage_class
from ffpdata.core.plugins import INTERACTIVE
from ffpdata.core.prompt import Prompt, TextRule
from ffpdata.core.resources import held_together
from ffpdata.core.sections import CurateSettings, ExportSettings, InputSettings
from ffpdata.core.stage import ModelSpec, ResourceSettings, Stage
from ffpdata.core.wording import fault


class StageEntry(BaseModel):
    """One stage of a pipeline: its name, its class and its settings."""

    model_config = ConfigDict(extra="forbid")

    name: str
    use: str
    """Import path `package.module:Class`."""
    settings: dict[str, Any] = {}
    code: str = ""
    """Absolute folder that the class is imported from, noted at the start of a run; empty where it is installed."""


class Pipeline(BaseModel):
    """A resolved pipeline: nothing is left to look up."""

    model_config = ConfigDict(extra="forbid")

    name: str
    track: str
    profile: str = ""
    needs: list[str] = []
    """Packaged networks that the profile names; a run starts where all are on the machine."""
    profile_told: str = Field("", exclude=True)
    """A line about how the profile was chosen, where the pipeline has alternatives and the user named none."""
    about: str = ""
    input: InputSettings = InputSettings()
    clip: dict[str, Any] = {}
    max_attempts: int = Field(default=3, ge=1)
    stages: list[StageEntry]
    models: dict[str, ModelSpec] = {}
    """Role to its back end; where a role has several, each stands under `<role>/<name>`."""
    prompts: dict[str, dict[str, Any]] = {}
    """The questions with their whole text: a run keeps what it asked, whatever becomes of the prompt files."""
    resources: dict[str, ResourceSettings] = {}
    """Per stage what its workers get on this hardware; counts in no key."""
    curate: CurateSettings = CurateSettings()
    export: ExportSettings = ExportSettings()

    @classmethod
    def of(
        cls,
        stages: Sequence[Any],
        *,
        name: str = "custom",
        track: str = "",
        profile: str | None = None,
        models: Mapping[str, Any] | None = None,
        overrides: Sequence[str] | Mapping[str, Any] = (),
        **sections: Any,
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
                import path, a profile's mapping or a `ModelSpec`; a list of these for several behind one role.
            overrides: as in `load_pipeline`.
            sections: what else a pipeline file has, e.g. `clip={"frames": 49}`, `input={"kind": "styled"}`,
                `curate={"variants": "all"}`, `resources`, `max_attempts`; `prompts` maps names to paths or `Prompt`s.

        Raises:
            ConfigError: with the value and the nearest valid name.
        """
        from ffpdata.core.config import assemble

        data = {"name": name, "track": track or name, "stages": [stage_entry(stage) for stage in stages], **sections}
        texts, where = override_texts(overrides), f"pipeline {name!r}"
        return assemble(data, {}, None, where, profile=profile, overrides=texts, models=specs_of(models))

    @property
    def interactive(self) -> list[str]:
        """Import paths of classes of a notebook or script, which no other process can import."""
        paths = [entry.use for entry in self.stages] + [spec.backend for spec in self.models.values()]
        return [path for path in paths if path.startswith(f"{INTERACTIVE}:")]

    def build(self) -> list[Stage]:
        """Make the stage objects in order (no model is loaded yet).

        Raises:
            ConfigError: a stage of the user's own is no longer where it was at the start; with what to do.
        """
        stages = []
        for entry in self.stages:
            try:
                cls = stage_class(entry.use, entry.code)
            except ConfigError as err:
                raise ConfigError(f"stage {entry.name!r}: {err}") from err
            prompts = {name: thaw(self.prompts[name]) for name in cls.prompts if name in self.prompts}
            stage = cls(cls.Settings.model_validate(entry.settings), self.models, prompts)
            try:
                stage.resources = cls.resources.overlaid(held_by(stage.specs), self.resources.get(entry.name))
            except ValidationError as err:
                raise ConfigError(f"resources of stage {entry.name!r}: {fault(err.errors()[0])}") from None
            stages.append(stage)
        return stages


def held_by(specs: Mapping[str, ModelSpec]) -> ResourceSettings | None:
    """What a worker holds that has all of a stage's models; those that differ in settings alone share their weights."""
    weights: dict[str, ResourceSettings] = {}
    for spec in specs.values():
        if spec.resources:
            weights[digest(spec.backend, spec.model, spec.revision, spec.runtime)] = spec.resources
    return held_together(list(weights.values()))


def freeze(prompt: Prompt) -> dict[str, Any]:
    """Return a question as plain data that `run.yaml` keeps."""
    rules = {name: rule.model_dump(mode="json", exclude_defaults=True) for name, rule in prompt.rules.items()}
    return {**vars(prompt), "inputs": list(prompt.inputs), "rules": rules}


def thaw(data: Mapping[str, Any]) -> Prompt:
    """Return the question that `freeze` made plain data of."""
    rules = {name: TextRule.model_validate(rule) for name, rule in data["rules"].items()}
    return Prompt(**{**data, "inputs": tuple(data["inputs"]), "rules": rules})
