"""Pipelines, profiles and `--set` into one checked configuration.

A pipeline file holds the order and the settings of the stages; a profile says which model fills which role and may
overlay stage settings; `--set a.b=c` comes last. An entry that nothing knows is refused with its file, its line and the
nearest valid name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ffpdata.core.errors import ConfigError, UsageError, nearest
from ffpdata.core.from_classes import override_texts, spec_of, stage_entry
from ffpdata.core.prompt import Prompt, TextRule
from ffpdata.core.sections import CurateSettings, InputSettings
from ffpdata.core.stage import INTERACTIVE, ModelSpec, ResourceSettings, Stage, import_object
from ffpdata.core.validation import Lines, validate

__all__ = ["CurateSettings", "InputSettings", "Library", "Pipeline", "StageEntry", "load_pipeline", "load_settings"]

S = TypeVar("S", bound=BaseModel)


class StageEntry(BaseModel):
    """One stage of a pipeline: its name, its class and its settings."""

    model_config = ConfigDict(extra="forbid")

    name: str
    use: str
    settings: dict[str, Any] = {}


class Pipeline(BaseModel):
    """A resolved pipeline: nothing is left to look up."""

    model_config = ConfigDict(extra="forbid")

    name: str
    track: str
    profile: str = ""
    about: str = ""
    input: InputSettings = InputSettings()
    clip: dict[str, Any] = {}
    max_attempts: int = Field(default=3, ge=1)
    stages: list[StageEntry]
    models: dict[str, ModelSpec] = {}
    prompts: dict[str, dict[str, Any]] = {}
    """The questions with their whole text: a run keeps what it asked, whatever becomes of the prompt files."""
    resources: dict[str, ResourceSettings] = {}
    """Per stage what its workers get on this hardware; counts in no key."""
    curate: CurateSettings = CurateSettings()

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
                import path, a profile's mapping or a `ModelSpec`.
            overrides: as in `load_pipeline`.
            sections: what else a pipeline file has, e.g. `clip={"frames": 49}`, `input={"kind": "styled"}`,
                `curate={"variants": "all"}`, `resources`, `max_attempts`; `prompts` maps names to paths or `Prompt`s.

        Raises:
            ConfigError: with the value and the nearest valid name.
        """
        data = {"name": name, "track": track or name, "stages": [stage_entry(stage) for stage in stages], **sections}
        roles = {role: spec_of(role, model) for role, model in (models or {}).items()}
        texts = override_texts(overrides)
        return assemble(data, {}, f"pipeline {name!r}", profile=profile, overrides=texts, models=roles)

    @property
    def interactive(self) -> list[str]:
        """Import paths of classes of a notebook or script, which no other process can import."""
        paths = [entry.use for entry in self.stages] + [spec.backend for spec in self.models.values()]
        return [path for path in paths if path.startswith(f"{INTERACTIVE}:")]

    def build(self) -> list[Stage]:
        """Make the stage objects in order (no model is loaded yet)."""
        stages = []
        for entry in self.stages:
            cls: type[Stage] = import_object(entry.use)
            prompts = {name: _thaw(self.prompts[name]) for name in cls.prompts if name in self.prompts}
            stage = cls(cls.Settings.model_validate(entry.settings), self.models, prompts)
            models = [self.models[role].resources for role in cls.models if role in self.models]
            try:
                stage.resources = cls.resources.overlaid(*models, self.resources.get(entry.name))
            except ValidationError as err:
                raise ConfigError(f"resources of stage {entry.name!r}: {err.errors()[0]['msg']}") from None
            stages.append(stage)
        return stages


def _freeze(prompt: Prompt) -> dict[str, Any]:
    rules = {name: rule.model_dump(mode="json", exclude_defaults=True) for name, rule in prompt.rules.items()}
    return {**vars(prompt), "inputs": list(prompt.inputs), "rules": rules}


def _thaw(data: Mapping[str, Any]) -> Prompt:
    rules = {name: TextRule.model_validate(rule) for name, rule in data["rules"].items()}
    return Prompt(**{**data, "inputs": tuple(data["inputs"]), "rules": rules})


@dataclass(frozen=True)
class Library:
    """Where pipelines, profiles and prompts lie: beside the package in a checkout, inside it in an installed wheel."""

    root: Path

    @classmethod
    def find(cls) -> Library:
        """Locate the files that come with ffpdata."""
        package = Path(__file__).resolve().parents[1]
        for root in (package.parent, package / "_data"):
            if (root / "pipelines").is_dir() and (root / "prompts").is_dir():
                return cls(root)
        raise ConfigError(f"no pipelines/ and prompts/ beside {package}: reinstall ffpdata")

    def file(self, kind: str, name: str) -> Path:
        """Resolve a name or path: `local_editing`, `pipelines/local_editing.yaml` or a file of the user's own."""
        given = Path(name)
        if given.suffix in (".yaml", ".yml"):
            for path in (given, self.root / given):
                if path.is_file():
                    return path
        path = self.root / kind / f"{name}.yaml"
        if path.is_file():
            return path
        known = [p.stem for p in (self.root / kind).glob("*.yaml")]
        raise UsageError(f"no {kind.rsplit('/', 1)[-1].removesuffix('s')} {name!r}{nearest(given.stem, known)}")


def pipeline_names() -> list[str]:
    """Names of the pipelines that come with ffpdata; pipelines/ holds settings of other commands, too."""
    files = sorted((Library.find().root / "pipelines").glob("*.yaml"))
    return [path.stem for path in files if "stages" in _read(path)[0]]


def load_pipeline(
    pipeline: str | Path,
    profile: str | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    models: Mapping[str, Any] | None = None,
) -> Pipeline:
    """Read a pipeline, lay its profile and the overrides over it and check every entry.

    Args:
        pipeline: name or path.
        profile: name or path; by default what the pipeline names. Several with commas between are laid over it in turn:
            `gpu,calibrated.yaml`.
        overrides: `a.b=c` texts, the value read as YAML. The first part is a section (`clip`, `models`, `curate`,
            `input`, `stages`) or directly a stage's name. Or a mapping: `{"clip.frames": 49}` sets an entry as a text
            does, `{"segment": {"min_area": 0.01}}` lays the inner entries over those that are there.
        models: roles to fill otherwise than the profile: a back end's class, its import path, or a `ModelSpec`.

    Raises:
        ConfigError: with file, line, value and the nearest valid name.
    """
    path = Library.find().file("pipelines", str(pipeline))
    data, lines = _read(path)
    roles = {role: spec_of(role, model) for role, model in (models or {}).items()}
    return assemble(data, lines, str(path), profile=profile, overrides=override_texts(overrides), models=roles)


def assemble(
    data: dict[str, Any],
    lines: Lines,
    path: str,
    *,
    profile: str | None,
    overrides: Sequence[str],
    models: Mapping[str, ModelSpec],
) -> Pipeline:
    """Make a checked pipeline of what a pipeline file holds: `data`, whose entries stand at `lines` of `path`."""
    library = Library.find()
    shipped = _stage_names()
    stages = _stage_map(data.pop("stages", None), path, lines, shipped)
    names = [name.strip() for name in str(profile or data.get("profile") or "").split(",") if name.strip()]
    known = []
    for name in names:
        profile_path = library.file("pipelines/profiles", name)
        overlay, overlay_lines = _read(profile_path)
        lines |= overlay_lines
        # A profile serves every pipeline: what it sets for stages that this one lacks is not for it.
        for stage, settings in (overlay.pop("stages", None) or {}).items():
            if stage in stages:
                _merge(stages[stage]["settings"], settings or {}, (stage,))
        known.append(str(overlay.pop("name", profile_path.stem)))
        overlay.pop("about", None)
        _merge(data, overlay, ())
    data["profile"] = ",".join(known)
    if models:
        _merge(data, {"models": models}, ())
    for text in overrides:
        _override(data, stages, text, lines)
    return _resolve(data, stages, lines, library, path, shipped=shipped)


def load_settings(model: type[S], name: str, overrides: Sequence[str] = ()) -> S:
    """Read a file of pipelines/ that sets up something else than a run: `model` says which entries it has.

    Args:
        model: what the file is checked against.
        name: name or path.
        overrides: `a.b=c` texts, the value read as YAML.

    Raises:
        ConfigError: with file, line, value and the nearest valid name.
    """
    path = Library.find().file("pipelines", name)
    data, lines = _read(path)
    for text in overrides:
        parts, value = _assignment(text)
        _assign(data, parts, value, text)
        lines[tuple(parts)] = f"--set {text}"
    settings: S = validate(model, data, (), lines, str(path))
    return settings


def _resolve(
    data: dict[str, Any],
    stages: dict[str, Any],
    lines: Lines,
    library: Library,
    where: str,
    *,
    shipped: Collection[str],
) -> Pipeline:
    entries: list[dict[str, Any]] = []
    prompts: dict[str, Any] = {}
    given = data.get("prompts") or {}
    for name, entry in stages.items():
        try:
            cls = import_object(entry["use"])
        except ConfigError as err:
            raise ConfigError(f"{lines.get(('stages', name), where)}: stage {name!r}: {err}") from err
        settings = dict(entry["settings"])
        if "clip" in cls.Settings.model_fields:
            settings = {"clip": data.get("clip", {}), **settings}
        model = validate(cls.Settings, settings, ("stages", name), lines, where)
        entries.append({"name": name, "use": entry["use"], "settings": model.model_dump(mode="json")})
        for prompt in cls.prompts:
            asked = given.get(prompt, prompt)
            found = asked if isinstance(asked, Prompt) else Prompt.load(library.file("prompts", str(asked)))
            prompts[prompt] = _freeze(found)
    data = {**data, "stages": entries, "prompts": prompts}
    resolved: Pipeline = validate(Pipeline, data, (), lines, where)
    for name in resolved.resources:
        # A profile serves every pipeline, so a stage that only another one has is no error there.
        if name not in stages and name not in shipped:
            spot = lines.get(("resources", name), where)
            raise ConfigError(f"{spot}: resources: no stage {name!r}{nearest(name, stages)}")
    return resolved


def _read(path: Path) -> tuple[dict[str, Any], Lines]:
    """Parse YAML into plain data and the line of every entry."""
    text = path.read_text(encoding="utf-8")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigError(f"{path}: not valid YAML: {err}") from err
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, found {type(data).__name__}")
    return data, {where: f"{path}:{line}" for where, line in _walk(node, ())}


def _walk(node: Any, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*where, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _walk(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            if isinstance(value, yaml.MappingNode):  # `- segment: {...}` is found under the stage's name
                yield from _walk(value, where)
            else:
                yield (*where, str(value.value)), value.start_mark.line + 1


def _stage_map(entries: Any, path: str, lines: Lines, shipped: Collection[str]) -> dict[str, Any]:
    """Turn the list of stages into name -> {use, settings}, in order; `shipped` come with ffpdata."""
    if entries is None:
        raise ConfigError(f"{path}: no pipeline to run, for it has no `stages`; another command reads it")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path}: `stages` must be a list of stage names, found {entries!r}")
    stages: dict[str, Any] = {}
    for entry in entries:
        name: Any = entry
        settings: Any = {}
        if isinstance(entry, dict):
            if len(entry) != 1:
                raise ConfigError(f"{path}: write one stage per list entry as `- name: {{settings}}`, found {entry!r}")
            name, settings = next(iter(entry.items()))
        use = str(name)
        where = lines.get(("stages", use), path)
        if ":" in use:  # a stage of the user's own: package.module:Class
            name = getattr(import_object(use), "name", "")
        else:
            if use not in shipped:
                raise ConfigError(f"{where}: no stage {use!r}{nearest(use, shipped)}")
            use = f"ffpdata.stages.{use}:{_class_name(use)}"
        if name in stages:
            raise ConfigError(f"{where}: stage {name!r} stands in the pipeline twice")
        if not isinstance(settings or {}, dict):
            raise ConfigError(f"{where}: the settings of stage {name!r} must be a mapping, found {settings!r}")
        lines.setdefault(("stages", str(name)), where)
        stages[str(name)] = {"use": use, "settings": dict(settings or {})}
    return stages


def _stage_names() -> frozenset[str]:
    """Names of the stages that come with ffpdata. It lists a folder: once per pipeline that is loaded."""
    return frozenset(p.stem for p in (Path(__file__).resolve().parents[1] / "stages").glob("*.py") if p.stem[0] != "_")


def _class_name(module: str) -> str:
    return "".join(part.capitalize() for part in module.split("_"))


def _merge(base: dict[str, Any], overlay: Mapping[str, Any], where: tuple[str, ...]) -> None:
    """Lay `overlay` over `base`: mappings merge (a model is replaced whole), everything else is replaced."""
    for name, value in overlay.items():
        here = (*where, name)
        if (
            isinstance(value, Mapping)
            and isinstance(base.get(name), dict)
            and not (here[0] == "models" and len(here) > 1)
        ):
            _merge(base[name], value, here)
        else:
            base[name] = dict(value) if isinstance(value, Mapping) else value


def _override(data: dict[str, Any], stages: dict[str, Any], text: str, lines: Lines) -> None:
    parts, value = _assignment(text)
    if parts[0] == "stages":
        parts = parts[1:]
    sections = set(Pipeline.model_fields) - {"stages"}
    if parts and parts[0] in stages and len(parts) > 1:
        _assign(stages[parts[0]]["settings"], parts[1:], value, text)
        lines["stages", *parts] = f"--set {text}"
    elif parts and parts[0] in sections:
        _assign(data, parts, value, text)
        lines[tuple(parts)] = f"--set {text}"
    else:
        first = parts[0] if parts else ""
        raise UsageError(f"--set {text!r}: no section or stage {first!r}{nearest(first, {*sections, *stages})}")


def _assignment(text: str) -> tuple[list[str], Any]:
    """Take `a.b=c` apart, the value read as YAML."""
    path, sign, value = text.partition("=")
    parts = path.strip().split(".")
    if not sign or not all(parts):
        raise UsageError(f"--set {text!r}: write a.b=c, e.g. --set segment.min_area=0.01")
    try:
        return parts, yaml.safe_load(value)
    except yaml.YAMLError as err:
        raise UsageError(f"--set {text!r}: the value is not valid YAML: {err}") from err


def _assign(target: dict[str, Any], parts: Sequence[str], value: Any, text: str) -> None:
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise UsageError(f"--set {text!r}: {part!r} holds a value, not a section")
    target[parts[-1]] = value
