"""Pipelines, profiles and `--set` into one checked configuration.

A pipeline file holds the order and the settings of the stages; a profile says which model fills which role and may
overlay stage settings; `--set a.b=c` comes last. An entry that nothing knows is refused with its file, its line and the
nearest valid name.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from ffpdata.core.back_ends import several_of, spread, takes_all
from ffpdata.core.entries import Lines, assign, assignment, merge, override, read, set_line, spot_of, validate
from ffpdata.core.errors import ConfigError, nearest
from ffpdata.core.from_classes import override_texts, specs_of
from ffpdata.core.library import Library
from ffpdata.core.pipeline import Pipeline, freeze
from ffpdata.core.pipeline_check import check_columns, check_prompts, stage_class
from ffpdata.core.plugins import locate, search_folders
from ffpdata.core.profile_choice import check_needs, choose
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec, Stage, of_role

__all__ = ["Library", "Pipeline", "assemble", "load_pipeline", "load_settings", "pipeline_names"]

S = TypeVar("S", bound=BaseModel)


def pipeline_names() -> list[str]:
    """Names of the pipelines that come with ffpdata; pipelines/ holds settings of other commands, too."""
    files = sorted((Library.find().root / "pipelines").glob("*.yaml"))
    return [path.stem for path in files if "stages" in read(path)[0]]


def load_pipeline(
    pipeline: str | Path,
    profile: str | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    models: Mapping[str, Any] | None = None,
    broken: dict[str, str] | None = None,
) -> Pipeline:
    """Read a pipeline, lay its profile and the overrides over it and check every entry.

    Stages, back ends and questions of the user's own are found in the folder of the pipeline file, in those of the
    profile files and in the working directory (`plugins.locate`, `Library.prompt`).

    Args:
        pipeline: name or path.
        profile: name or path; by default what the pipeline names (of alternatives the first whose networks are on this
            machine, `profile_choice`). Several with commas between are laid over it in turn:
            `gpu,calibrated.yaml`. A role that one of them names is replaced whole, the other roles stay.
        overrides: `a.b=c` texts, the value read as YAML. The first part is a section (`clip`, `models`, `curate`,
            `input`, `stages`) or directly a stage's name. Or a mapping: `{"clip.frames": 49}` sets an entry as a text
            does, `{"segment": {"min_area": 0.01}}` lays the inner entries over those that are there.
        models: roles to fill otherwise than the profile: a back end's class, its import path, or a `ModelSpec`; a list
            of these for several back ends behind one role.
        broken: takes what is wrong with back ends that cannot be imported, by role, where that is to raise nothing.

    Raises:
        ConfigError: with file, line, value and the nearest valid name.
    """
    path = Library.find().file("pipelines", str(pipeline))
    data, lines = read(path)
    texts = override_texts(overrides)
    return assemble(
        data, lines, path, str(path), profile=profile, overrides=texts, models=specs_of(models), broken=broken
    )


def assemble(
    data: dict[str, Any],
    lines: Lines,
    file: Path | None,
    where: str,
    *,
    profile: str | None,
    overrides: Sequence[str] = (),
    models: Mapping[str, ModelSpec | list[ModelSpec]],
    alone: bool = False,
    broken: dict[str, str] | None = None,
) -> Pipeline:
    """Make a checked pipeline of what a pipeline file holds.

    Args:
        data: the file's content.
        lines: where each of its entries stands.
        file: the file; None where the pipeline was made of Python objects.
        where: what messages call it.
        profile: as in `load_pipeline`.
        overrides: `a.b=c` texts.
        models: roles that are filled otherwise than by the profile.
        alone: whether stages are tried without those before them, so that nobody writes the columns that they read.
        broken: as in `load_pipeline`.
    """
    library = Library.find()
    choice = choose(profile, data.get("profile"), library, spot_of(lines, ("profile",), where))
    profiles = [library.file("pipelines/profiles", name) for name in choice.names]
    files = [file, *profiles] if file else profiles
    draft = _Draft(where, data, lines, library, search_folders(library.own(files)), broken)
    draft.take_stages()
    data["profile"] = ",".join([draft.overlay(file) for file in profiles])
    data["profile_told"] = choice.told
    if models:
        merge(data, {"models": models})
    sections = set(Pipeline.model_fields) - {"stages", "profile_told"}
    draft.spread_models()
    for text in overrides:
        override(data, draft.stages, sections, text, lines)
    draft.spread_models()
    return draft.resolve(alone=alone)


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
    data, lines = read(path)
    for text in overrides:
        parts, value = assignment(text)
        assign(data, parts, value, text)
        set_line(lines, tuple(parts), f"--set {text}")
    settings: S = validate(model, data, (), lines, str(path))
    return settings


@dataclass
class _Draft:
    """A pipeline in the making.

    Attributes:
        where: its file, or what messages call it.
        data: its sections, the profiles laid over them.
        lines: where each entry stands.
        folders: where code and questions of the user's own are sought.
        broken: takes errors of back ends by role, where they are not to be raised.
        stages: name to `use`, `settings` and `code`, in order.
        classes: name to class.
        spread: places of several back ends of one role.
        spots: name to the place of its entry in the pipeline; a profile's entry for it stands elsewhere.
    """

    where: str
    data: dict[str, Any]
    lines: Lines
    library: Library
    folders: Sequence[Path]
    broken: dict[str, str] | None = None
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    classes: dict[str, type[Stage]] = field(default_factory=dict)
    spots: dict[str, str] = field(default_factory=dict)
    spread: set[str] = field(default_factory=set)
    shipped: Collection[str] = field(default_factory=lambda: _stage_names())  # noqa: PLW0108 - it stands below

    def take_stages(self) -> None:
        """Read the list of stages and import them."""
        entries = self.data.pop("stages", None)
        if entries is None:
            raise ConfigError(f"{self.where}: no pipeline to run, for it has no `stages`; another command reads it")
        if not isinstance(entries, list) or not entries:
            raise ConfigError(f"{self.where}: `stages` must be a list of stage names, found {entries!r}")
        for entry in entries:
            use, settings = entry, None
            if isinstance(entry, dict):
                if len(entry) != 1:
                    raise ConfigError(
                        f"{self.where}: write one stage per list entry as `- name: {{settings}}`, found {entry!r}"
                    )
                use, settings = next(iter(entry.items()))
            self._take(str(use), settings or {})

    def _take(self, use: str, settings: Any) -> None:
        where = self._spot("stages", use)
        name, code = use, ""
        if ":" in use:  # a stage of the user's own: package.module:Class
            try:
                code = locate(use, self.folders)
                cls = stage_class(use, code)
            except ConfigError as err:
                raise ConfigError(f"{where}: {err}") from err
            name = cls.name
            for entry in [entry for entry in self.lines if entry[:2] == ("stages", use)]:
                self.lines.setdefault(("stages", name, *entry[2:]), self.lines[entry])
        else:
            if use not in self.shipped:
                raise ConfigError(f"{where}: no stage {use!r}{nearest(use, self.shipped)}")
            use = f"ffpdata.stages.{name}:{_class_name(name)}"
            cls = stage_class(use)
        if name in self.stages:
            raise ConfigError(f"{where}: stage {name!r} stands in the pipeline twice")
        if not isinstance(settings, dict):
            raise ConfigError(f"{where}: the settings of stage {name!r} must be a mapping, found {settings!r}")
        self.stages[name] = {"use": use, "settings": dict(settings), "code": code}
        self.classes[name], self.spots[name] = cls, where

    def overlay(self, file: Path) -> str:
        """Lay a profile over the pipeline and return its name."""
        overlay, lines = read(file)
        self.lines |= lines
        stages = overlay.pop("stages", None) or {}
        if not isinstance(stages, dict):
            raise ConfigError(f"{file}: a profile's `stages` maps a stage's name to settings, found {stages!r}")
        for name, settings in stages.items():
            self._check_name("stages", name)
            if name in self.stages:
                merge(self.stages[name]["settings"], settings or {}, (name,))
        known = {role for cls in self.classes.values() for role in cls.models}
        models = overlay.get("models")
        for role in models if isinstance(models, dict) else ():
            if role not in known and role not in (known := known | self._shipped_roles()):
                raise ConfigError(f"{self._spot('models', role)}: no stage has a model {role!r}{nearest(role, known)}")
        overlay.pop("about", None)
        needs = check_needs(overlay.pop("needs", None) or [], self._spot("needs"))
        if needs:
            self.data["needs"] = list(dict.fromkeys([*self.data.get("needs", []), *needs]))
        title = str(overlay.pop("name", file.stem))
        merge(self.data, overlay)
        return title

    def _shipped_roles(self) -> set[str]:
        """Roles that the stages of ffpdata have, those of other pipelines too."""
        files = sorted((self.library.root / "pipelines" / "profiles").glob("*.yaml"))
        return {role for file in files for role in read(file)[0].get("models") or {}}

    def spread_models(self) -> None:
        """Give each of several back ends of a role its own place, `<role>/<name>`, in place of the list."""
        models: Any = self.data.get("models")
        if not isinstance(models, dict):
            return
        for key in models:
            role, named, _ = key.partition("/")
            if named and key not in self.spread:
                has = [other for other in self.spread if other.startswith(f"{role}/")] or [role]
                raise ConfigError(f"{self._spot('models', key)}: models: no {key!r}{nearest(key, has)}")
        for role in {key.partition("/")[0]: None for key in models}:
            more = [key for key in of_role(models, role) if key != role]
            if isinstance(models.get(role), (list, tuple)):
                self._check_several(role)
                spread(models, role, self.lines, self._spot("models", role), self.folders)
                self.spread |= {key for key in models if key.startswith(f"{role}/")}
            elif role in models and more and not takes_all(models[role]):
                raise ConfigError(
                    f"{self._spot('models', role)}: models.{role} has several back ends: "
                    f"name one, e.g. models.{more[0]}"
                )
            elif role in models:  # a back end of its own, given after the list
                for key in more:
                    del models[key]

    def _check_several(self, role: str) -> None:
        users = [cls for cls in self.classes.values() if role in cls.models]
        if all(role in cls.several for cls in users):
            return
        can = sorted({role for cls in self.classes.values() for role in cls.several})
        lists = f"; lists are for {' and '.join(can)}" if can else ""
        raise ConfigError(f"{self._spot('models', role)}: models.{role} takes one back end, found a list{lists}")

    def resolve(self, *, alone: bool) -> Pipeline:
        """Check every entry, and how the stages fit together where they are not tried alone."""
        entries = [self._entry(name) for name in self.stages]
        prompts = self._prompts()
        frozen = {name: freeze(prompt) for name, (prompt, _) in prompts.items()}
        data = {**self.data, "stages": entries, "prompts": frozen}
        resources = data.get("resources") or {}
        for name in resources if isinstance(resources, Mapping) else ():
            self._check_name("resources", name)
        resolved: Pipeline = validate(Pipeline, data, (), self.lines, self.where)
        if not alone:
            check_columns(self.classes, self.spots.__getitem__)
            check_prompts(self.classes, prompts, self.spots.__getitem__)
        writes = {name: kind for cls in self.classes.values() for name, kind in cls.writes.items()}
        resolved.export.check(writes, self.where, self.lines)
        models = {role: self._located(role, spec) for role, spec in resolved.models.items()}
        return resolved.model_copy(update={"models": models})

    def _entry(self, name: str) -> dict[str, Any]:
        settings, model = self.stages[name]["settings"], self.classes[name].Settings
        if "clip" in model.model_fields:
            settings = {"clip": self.data.get("clip", {}), **settings}
        if "back_ends" in model.model_fields:
            if "back_ends" in settings:
                raise ConfigError(
                    f"{self._spot('stages', name, 'back_ends')}: {name}.back_ends follows from the lists in `models`: "
                    "write `models: {remover: [{...}, {...}]}` in a profile"
                )
            settings = {**settings, "back_ends": several_of(self.data.get("models") or {})}
        checked = validate(model, settings, ("stages", name), self.lines, self.where)
        return self.stages[name] | {"name": name, "settings": checked.model_dump(mode="json")}

    def _prompts(self) -> dict[str, tuple[Prompt, str]]:
        """The questions of all stages, each with its file."""
        given, found = self.data.get("prompts") or {}, {}
        asked = {prompt for cls in self.classes.values() for prompt in cls.prompts}
        if not isinstance(given, dict):
            raise ConfigError(f"{self._spot('prompts')}: `prompts` maps a question to its file, found {given!r}")
        for name in given:
            if name not in asked and name not in (known := asked | set(self.library.names("prompts"))):
                raise ConfigError(f"{self._spot('prompts', name)}: no stage asks {name!r}{nearest(name, known)}")
        for stage, cls in self.classes.items():
            module = getattr(sys.modules[cls.__module__], "__file__", None)
            beside = [Path(module).parent] if module and not cls.__module__.startswith("ffpdata.") else []
            folders = [*self.folders[:-1], *beside, self.folders[-1]]
            for name in cls.prompts:
                if isinstance(given.get(name), Prompt):
                    found[name] = (given[name], f"prompt {name!r}")
                    continue
                try:
                    file = self.library.prompt(name, str(given.get(name) or ""), folders)
                except ConfigError as err:
                    spot = self._spot("prompts", name) if name in given else self.spots[stage]
                    raise type(err)(f"{spot}: stage {stage!r}: {err}") from err
                found[name] = (Prompt.load(file), str(file))
        return found

    def _located(self, role: str, spec: ModelSpec) -> ModelSpec:
        """A role with the folder of its back end; what the pipeline's stages use must be there and be a back end."""
        used = any(role.partition("/")[0] in cls.models for cls in self.classes.values())
        try:
            own = not spec.backend.startswith("ffpdata.")
            found = spec.model_copy(update={"code": spec.code or locate(spec.backend, self.folders)}) if own else spec
            if used and own:
                found.identity()
        except ConfigError as err:
            if used:
                text = f"{self._spot('models', role, 'backend')}: models.{role}: {err}"
                if self.broken is None:
                    raise ConfigError(text) from err
                self.broken[role] = text
            return spec
        return found

    def _check_name(self, section: str, name: str) -> None:
        """Refuse a stage that nobody has. A profile serves every pipeline: one that another one has is no error."""
        if name not in self.stages and name not in self.shipped:
            raise ConfigError(f"{self._spot(section, name)}: {section}: no stage {name!r}{nearest(name, self.stages)}")

    def _spot(self, *entry: str) -> str:
        """`file:line` of an entry, or of what it stands in."""
        return spot_of(self.lines, entry, self.where)


def _stage_names() -> frozenset[str]:
    """Names of the stages that come with ffpdata. It lists a folder: once per pipeline that is loaded."""
    return frozenset(p.stem for p in (Path(__file__).resolve().parents[1] / "stages").glob("*.py") if p.stem[0] != "_")


def _class_name(module: str) -> str:
    return "".join(part.capitalize() for part in module.split("_"))
