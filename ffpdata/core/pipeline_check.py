"""Errors of a pipeline that are known before anything runs: classes that are no stages, columns that nobody writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ffpdata.core.errors import ConfigError, nearest
from ffpdata.core.plugins import import_object
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import Artifact, Stage, StageSettings

INPUT_COLUMNS = (
    *("path", "root", "fingerprint", "problem", "style_paths", "style_fingerprints", "styles_offered"),
    *("reference_paths", "reference_fingerprints", "edited_first_frame_paths", "edited_first_frame_fingerprints"),
    *("given_source_caption", "mask_paths", "mask_fingerprints"),
    *("edited_frame_paths", "edited_frame_fingerprints", "edited_frame_indices"),
    *("given_object", "given_box", "given_caption", "licence", "url", "meta"),
)
"""Columns that an entry of the input brings along, see `inputs/listing.py`; all but the first three may be missing."""

TAKEN = ("curate", "inputs", "items", "review", "yields")
"""Names of other tables of a run."""

COLUMN_TYPES = (str, int, float, bool, dict, list[str], list[int], list[float])
"""Types of the columns that a stage writes, beside `Artifact(ext)`."""
TYPES = "str, int, float, bool, dict, list[str], list[int], list[float]"

TABLE_COLUMNS = (
    *("item_id", "entered_id", "parent_id", "source_id", "track", "stage", "key", "upstream", "status", "reason"),
    *("error", "attempt", "started_at", "seconds", "cpu_seconds", "worker", "model", "artifacts", "notes"),
)
"""Columns that the table of every stage has anyway."""

Spot = Callable[[str], str]
"""Name of a stage to the `file:line` of its entry."""


def stage_class(path: str, folder: str = "") -> type[Stage]:
    """Import a stage's class and check what it declares.

    Args:
        path: `package.module:Class`.
        folder: where its module lies, as `plugins.locate` found it; "" for what is installed.

    Raises:
        ConfigError: it cannot be imported, is no stage, or declares something that cannot be.
    """
    cls = import_object(path, folder)
    if not isinstance(cls, type) or not issubclass(cls, Stage):
        raise ConfigError(f"{path} is no stage but {cls!r}: a stage is a class that inherits ffpdata.core.stage.Stage")
    if cls is Stage:
        raise ConfigError(f"{path} is the base class of stages: name a class that inherits it")
    if problem := _problem(cls):
        raise ConfigError(f"{path}: {problem}")
    return cls


def _problem(cls: type[Stage]) -> str:
    """What a class must change to be a stage; empty where it is one."""
    return _wrong_name(cls) or _wrong_method(cls) or _wrong_columns(cls)


def _wrong_name(cls: type[Stage]) -> str:
    name, version = vars(cls).get("name"), cls.version
    if not isinstance(name, str):
        return (
            f"a stage needs a class attribute `name` (str) of its own, e.g. {_snake(cls.__name__)!r}; it counts in "
            f"keys and names a table, so choose it once; found {name!r}"
        )
    if name in TAKEN:
        return f"`name` is {name!r}: a run has a table of that name already, choose another one"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        return f"`name` is {name!r}: it names a folder and a table, use letters, digits and _, a letter first"
    if not isinstance(version, int) or isinstance(version, bool):
        return f"`version` is {version!r}: write a whole number, and raise it whenever the stage's answers change"
    return ""


def _wrong_method(cls: type[Stage]) -> str:
    overridden = {name for name in ("process", "expand") if getattr(cls, name) is not getattr(Stage, name)}
    wanted = "expand" if cls.fan_out else "process"
    if wanted in overridden:
        return ""
    if overridden:
        return f"it overrides `{overridden.pop()}`, which is called where `fan_out` is {not cls.fan_out}: set `fan_out`"
    return "it overrides neither `process` (one row in, one row out) nor `expand` (several rows out, `fan_out = True`)"


def _wrong_columns(cls: type[Stage]) -> str:
    for attribute in ("reads", "uses", "optional", "added", "models", "optional_models", "prompts", "fields"):
        value = getattr(cls, attribute)
        if not isinstance(value, (tuple, list)) or not all(isinstance(entry, str) for entry in value):
            hint = f'; for one name write ("{value}",)' if isinstance(value, str) else ""
            return f"`{attribute}` is {value!r}: write a tuple of names{hint}"
    if not isinstance(cls.writes, Mapping):
        return f"`writes` is {cls.writes!r}: write a mapping of column to type, e.g. {{'sharpness': float}}"
    for column, kind in cls.writes.items():
        if column in TABLE_COLUMNS:
            return f"`writes` has {column!r}, which every table has already: call it {cls.name}_{column}"
        if kind not in COLUMN_TYPES and not isinstance(kind, Artifact):
            return f"`writes` gives {column!r} the type {kind!r}: use {TYPES}, or Artifact('mp4') for a file"
    if not isinstance(cls.Settings, type) or not issubclass(cls.Settings, StageSettings):
        return f"`Settings` is {cls.Settings!r}: write a class that inherits ffpdata.core.stage.StageSettings"
    has = (*cls.reads, *cls.uses)
    for column in cls.optional:
        if column not in has:
            return f"`optional` names {column!r}, which is in neither `reads` nor `uses`{nearest(column, has)}"
    return ""


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def check_columns(stages: Mapping[str, type[Stage]], spot: Spot) -> None:
    """Check that every column that a stage needs is written before it, by the input or by a stage.

    Args:
        stages: name to class, in order.
        spot: where a stage's entry stands.

    Raises:
        ConfigError: with file and line of the stage, the column and the nearest one that there is.
    """
    there = set(INPUT_COLUMNS)
    names = list(stages)
    for number, (name, cls) in enumerate(stages.items()):
        for column in (*cls.reads, *cls.uses):
            if column in there or column in cls.optional:
                continue
            behind = {other: stages[other] for other in names[number + 1 :]}  # one that reads it only changes it
            later = [other for other, its in behind.items() if column in its.writes and column not in its.reads]
            raise ConfigError(f"{spot(name)}: stage {name!r} reads {column!r}, {_why(name, column, later, there)}")
        there |= set(cls.writes)


def _why(name: str, column: str, later: Sequence[str], there: set[str]) -> str:
    if later:
        return f"which {later[0]!r} writes, but after it: put {later[0]!r} before {name!r}"
    hint = nearest(column, there)
    if hint.endswith("?"):
        return f"which no stage before it writes{hint}"
    remedy = f"Add the stage that does, or declare `optional = ({column!r},)` in {name!r} if it works without."
    return f"which neither the input has nor a stage before it writes. {remedy}"


def check_prompts(stages: Mapping[str, type[Stage]], prompts: Mapping[str, tuple[Prompt, str]], spot: Spot) -> None:
    """Check that every input of a question is a column that its stage has, or a field that the stage makes.

    Args:
        stages: name to class, in order.
        prompts: what a stage calls a question, to the question and its file.
        spot: where a stage's entry stands.

    Raises:
        ConfigError: with the file of the question, the input and the nearest column.
    """
    there = set(INPUT_COLUMNS)
    for name, cls in stages.items():
        has = {column for column in (*cls.reads, *cls.uses) if column in there} | set(cls.fields)
        for asked in cls.prompts:
            prompt, file = prompts[asked]
            for field in prompt.inputs:
                if field not in has:
                    raise ConfigError(
                        f"{file}: inputs names {field!r}, and stage {name!r} ({spot(name)}) has no such field: inputs "
                        f"are columns of its `reads` and `uses` that are written before it{nearest(field, has)}"
                    )
        there |= set(cls.writes)
