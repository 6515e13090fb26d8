"""The stage contract: one step, a row in, a row out.

A newcomer needs four words: `Stage`, `Row`, `Resources` and `Reject`.

    from ffpdata import Artifact, Reject, Resources, Row, Stage, StageSettings

    class Brighten(Stage):
        name, version = "brighten", 1
        reads = ("source_video",)
        writes = {"target_video": Artifact("mp4"), "gain": float}

        class Settings(StageSettings):
            gain: float = 1.2

        def process(self, row):
            frames = read_video(row.file("source_video"))
            target = row.new_file("target_video")
            write_video(target, ..., fps=row["fps"])
            return {"target_video": target, "gain": self.settings.gain}

Every stage must be safe to run twice on the same row: the second result replaces nothing, because both have one key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from ffpdata.core.errors import ConfigError, FatalError, Reject, nearest
from ffpdata.core.file_names import path_of
from ffpdata.core.keys import digest, row_key
from ffpdata.core.networks import network_labels, network_names
from ffpdata.core.plugins import INTERACTIVE, import_object, import_path
from ffpdata.core.prompt import Prompt
from ffpdata.core.resources import Resources, ResourceSettings
from ffpdata.core.wording import fault

__all__ = [
    "Artifact",
    "Child",
    "Item",
    "ModelSpec",
    "Reject",
    "ResourceSettings",
    "Resources",
    "Row",
    "Stage",
    "StageSettings",
    "import_object",
    "import_path",
]


class ModelSpec(BaseModel):
    """One model role of a profile: which back end, which checkpoint, and how it runs.

    The back end's `name` and `version`, and `model`, `revision` and `settings` shape the answer and count in every key
    of a stage that uses the role. `runtime` (device, offload, endpoint, concurrency) says how the same answer is
    computed and counts in none; neither does the path that the back end is imported by, so that a class may move.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str
    """Import path `package.module:Class`."""
    name: str = Field("", pattern=r"^[A-Za-z0-9_-]*$")
    """Tells it from the other back ends of its role, where the role has several: in item ids, in reports and in the
    column `back_end`. The back end's own name where unset; it counts in no key."""
    model: str = "embedded"
    revision: str = ""
    licence: str = ""
    settings: dict[str, Any] = {}
    runtime: dict[str, Any] = {}
    resources: ResourceSettings | None = None
    code: str = ""
    """Absolute folder that the back end is imported from, noted at the start of a run; empty where it is installed."""
    _interactive: type | None = PrivateAttr(None)
    """A class of a notebook or script: it travels with the spec to workers, which cannot import it."""

    @classmethod
    def of(cls, backend: type, **entries: Any) -> ModelSpec:
        """Make the spec of a back end's class; `entries` are those of a profile (`model`, `settings`, `runtime`)."""
        return cls(backend=import_path(backend), **entries)

    def load_class(self) -> type:
        """Import the back end's class.

        Raises:
            ConfigError: it cannot be imported, or is no class.
        """
        try:
            found: type = import_object(self.backend, self.code)
        except ConfigError:
            if self._interactive is None:
                raise
            return self._interactive
        if not isinstance(found, type):
            raise ConfigError(
                f"{self.backend} is no class but {found!r}: a back end is a class that is called with its ModelSpec"
            )
        if found.__module__ == INTERACTIVE:
            self._interactive = found
        return found

    def identity(self) -> dict[str, Any]:
        """Return what shapes the answer, the back end's own version included."""
        found = self.load_class()
        version = getattr(found, "version", None)
        if not isinstance(version, int):
            raise ConfigError(f"{self.backend}: a back end needs a class attribute `version` (int), found {version!r}")
        return {
            "backend": self._name(found),
            "version": version,
            "model": self.model,
            "revision": self.revision,
            "settings": self.settings,
            **({"networks": over} if (over := network_labels(network_names(found, self))) else {}),
        }

    @property
    def label(self) -> str:
        """`model@revision+adapter@revision+network@version`, as the column `model` shows it; it counts in no key."""
        found = self.load_class()
        name = self.model if self.model != "embedded" else self._name(found)
        over = found.adapters(self) if hasattr(found, "adapters") else ()
        parts = (
            f"{name}@{self.revision or getattr(found, 'version', '?')}",
            *over,
            *network_labels(network_names(found, self)),
        )
        return "+".join(part.replace(", ", " ") for part in parts)  # a comma stands between the models of one row

    def named_by(self, label: str) -> bool:
        """Say whether a label is one of this model, at whatever revision and with whatever over it."""
        names = (self.model, self._name(self.load_class()))
        return any(label.startswith(f"{name.replace(', ', ' ')}@") for name in names)

    def _name(self, found: type) -> str:
        """The back end's own name. An inherited one would give two classes with different answers one key."""
        name = vars(found).get("name")
        if not isinstance(name, str) or not name:
            raise ConfigError(
                f"{self.backend}: a back end needs a class attribute `name` (str) of its own, e.g. my_model; "
                f"it counts in keys, so choose it once; found {name!r}"
            )
        return name


class StageSettings(BaseModel):
    """Base of a stage's settings: every field has a default, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Artifact:
    """Column type of a file that a stage writes; its value is the path relative to the run folder."""

    ext: str


@dataclass(frozen=True)
class Child:
    """One row of a fan-out.

    Attributes:
        suffix: extends the parent's item id: `<parent>/<suffix>`.
        columns: added to the parent's columns.
        source_id: set by the stage that reads a source's bytes alone: the child starts a line of its own and `suffix`
            is its whole item id.
    """

    suffix: str
    columns: Mapping[str, Any]
    source_id: str = ""


class Row(Mapping[str, Any]):
    """One item on its way: column values, and access to its files. Rows carry paths and scalars, never pixels.

    A stage sees the columns that it declares in `reads` and `uses` and no others, so that all it answers by is known.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        item_id: str = "",
        open_file: Callable[[str], Path] | None = None,
        new_file: Callable[[str, str], Path] | None = None,
        open_input: Callable[[str, float], Path] | None = None,
    ) -> None:
        self._values = dict(values)
        self.item_id = item_id
        self.notes: dict[str, Any] = {}
        """What a stage wants to be known of its work and no later stage reads; it ends in the manifest's `notes`, also
        where the item is rejected or fails."""
        self._open_file = open_file
        self._new_file = new_file
        self._open_input = open_input

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(
                f"no column {name!r} in the row: the stage must declare it in `reads`, and an earlier one write it"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def file(self, column: str) -> Path:
        """Return a local path to read the artifact in `column` from (fetched first where the run is remote)."""
        value = self._values.get(column)
        if not isinstance(value, str) or not value:
            raise KeyError(f"row {self.item_id!r} has no file in column {column!r} (value {value!r})")
        return self._open_file(value) if self._open_file else Path(value)

    def input(self, path: str, max_bytes: float = math.inf) -> Path:
        """Return a local path to read a file of the run's input from (fetched first where the input is remote).

        Args:
            path: relative to the column `root`, which the stage must declare in `uses`.
            max_bytes: a remote file above it is rejected as `too_large` before it is fetched.
        """
        root = str(self["root"])
        if "://" not in root:
            return Path(path_of(root)) / path_of(path)
        if self._open_input is None:
            raise RuntimeError("this row has no access to remote inputs: it was built without a workspace")
        return self._open_input(f"{root}/{path}", max_bytes)

    def new_file(self, column: str, child: str = "") -> Path:
        """Return a local path to write the artifact of `column` to; it is committed when `process` returns.

        In a fan-out, `child` is the suffix of the child that the file belongs to.
        """
        if self._new_file is None:
            raise RuntimeError("this row has no place for new files: it was built without a workspace")
        return self._new_file(column, child)


class Stage:
    """One step of a pipeline. Subclasses set the class attributes and override `process` or `expand`."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raise it whenever the code's answer changes: all rows of the stage are then redone."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Columns whose values count in the key."""
    uses: ClassVar[tuple[str, ...]] = ()
    """Columns that are needed but do not count: where something lies, not what it is; or what `applies` alone reads."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Those of `reads` and `uses` that no stage before need write: read them with `row.get(name)`."""
    added: ClassVar[tuple[str, ...]] = ()
    """Those of `reads` that the stage came to read after it had made rows: they count in the key of items that have
    them, and rows of items without them keep theirs."""
    writes: ClassVar[Mapping[str, Any]] = {}
    """Column name to type: `str`, `int`, `float`, `bool`, `list[str]`, `dict` (stored as JSON) or `Artifact(ext)`."""
    facts_column: ClassVar[str] = ""
    """Column of type `dict` for what a model measured; a rejection's facts that are no columns go there too."""
    models: ClassVar[tuple[str, ...]] = ()
    """Model roles that the stage may use."""
    optional_models: ClassVar[tuple[str, ...]] = ()
    """Those of `models` that a profile need not fill: `applies` then says what becomes of the items."""
    several: ClassVar[tuple[str, ...]] = ()
    """Those of `models` that may have several back ends in one run. Each of these is then a role `<role>/<name>` of its
    own, and `roles` says by which one a row is made."""
    prompts: ClassVar[tuple[str, ...]] = ()
    """Prompt files that the stage asks. Their inputs are columns of `reads` and `uses`, and `fields`."""
    fields: ClassVar[tuple[str, ...]] = ()
    """Inputs of its prompts that the stage makes itself and that are no columns."""
    resources: Resources = Resources()
    """What one worker needs; a profile may say otherwise for its model, `resources` in a pipeline for its hardware."""
    fan_out: ClassVar[bool] = False
    """True where `expand` is overridden."""
    Settings: ClassVar[type[StageSettings]] = StageSettings

    def __init__(
        self,
        settings: StageSettings | None = None,
        specs: Mapping[str, ModelSpec] | None = None,
        prompts: Mapping[str, Prompt] | None = None,
        **values: Any,
    ) -> None:
        self.settings: Any = settings if settings is not None else self._settings(values)
        self.specs = {key: spec for role in self.models for key, spec in of_role(specs or {}, role).items()}
        self.questions = {name: (prompts or {})[name] for name in self.prompts if name in (prompts or {})}
        self._loaded: dict[str, Any] = {}
        self._fixed: dict[tuple[str, ...], str] = {}

    @classmethod
    def _settings(cls, values: Mapping[str, Any]) -> StageSettings:
        """Check settings that were given by name: `Blur(radius=9)`."""
        try:
            return cls.Settings(**values)
        except ValidationError as err:
            first = err.errors()[0]
            entry, why = ".".join(str(part) for part in first["loc"]), fault(first)
            if first["type"] == "extra_forbidden":
                why = f"the stage has no such setting{nearest(entry, cls.Settings.model_fields)}"
            raise ConfigError(f"stage {cls.name!r}: {entry}: {why}") from None

    # --- what a subclass overrides ---

    def applies(self, row: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Say whether the item passes through this stage; where it does not, it goes on unchanged without a row.

        `row` has all columns; declare those that it looks at in `reads` or `uses`, so that they are there.
        """
        return True

    def roles(self, row: Mapping[str, Any]) -> tuple[str, ...]:  # noqa: ARG002
        """Return the model roles that this very row uses: only these count in its key."""
        return self.models

    @property
    def idle(self) -> bool:
        """Whether the profile fills none of its roles, all of which it need not fill: it then passes every item."""
        return bool(self.optional_models) and set(self.models) == set(self.optional_models) and not self.specs

    def setup(self) -> None:
        """Prepare the worker, once: loads every model of `models`. Override to load less, or more."""
        for role in self.models:
            needed = () if role in self.optional_models else (role,)
            for key in of_role(self.specs, role) or needed:
                self.model(key)

    def packaged(self) -> tuple[str, ...]:
        """Names of the packaged networks that the stage runs itself, beside those of its models."""
        return ()

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the new columns, or raise `Reject`."""
        raise NotImplementedError(f"stage {self.name!r} overrides neither process nor expand")

    def expand(self, row: Row) -> list[Child]:
        """Return several rows for one, or raise `Reject`. An empty list is an error: say why by a `Reject`."""
        raise NotImplementedError(f"stage {self.name!r} overrides neither process nor expand")

    def teardown(self) -> None:
        """Free processes and memory."""
        for model in self._loaded.values():
            model.close()
        self._loaded.clear()

    # --- what a subclass calls ---

    def model(self, role: str) -> Any:
        """Return the model of `role`, loaded at its first use; roles with the same spec share one instance."""
        spec = self.specs.get(role)
        if spec is None:
            raise FatalError(
                f"stage {self.name!r} needs a model for the role {role!r}: add it under `models` in the profile"
            )
        name = digest(spec.identity(), spec.runtime)
        if name not in self._loaded:
            self._loaded[name] = spec.load_class()(spec)
        return self._loaded[name]

    # --- what the runner calls ---

    def key_of(self, values: Mapping[str, Any]) -> str:
        """Content key of a row with these column values at this stage."""
        reads = [name for name in self.reads if name not in self.added or values.get(name) is not None]
        return row_key(self.fixed_key(self.roles(values)), reads, values)

    def fixed_key(self, roles: tuple[str, ...]) -> str:
        """Digest of what is the same for all rows that use `roles`."""
        if roles not in self._fixed:
            settings = self.settings.model_dump(mode="json")
            found: dict[str, list[dict[str, Any]]] = {}
            for role in roles:
                identities = [spec.identity() for spec in of_role(self.specs, role).values()]
                # What a back end is called, and beside which others it stands, changes nothing in what it makes.
                found.setdefault(role.partition("/")[0], []).extend(identities)
            models = {role: one[0] if len(one) == 1 else one for role, one in found.items() if one}
            prompts = {name: prompt.key for name, prompt in self.questions.items()}
            self._fixed[roles] = digest(self.name, self.version, settings, prompts, models)
        return self._fixed[roles]


def of_role(specs: Mapping[str, ModelSpec], role: str) -> dict[str, ModelSpec]:
    """Return the back ends of a role: the one under its own name, or each of several under `<role>/<name>`."""
    return {key: spec for key, spec in specs.items() if key == role or key.startswith(f"{role}/")}


@dataclass(frozen=True)
class Item:
    """A row with its identity, as the runner moves it from stage to stage.

    Attributes:
        item_id: grows along the fan-out: `<clip>`, `<clip>/removal/bbox`.
        parent_id: the item that it was fanned out of.
        source_id: hash of the source's bytes.
        values: the columns so far.
        upstream: key of the row that it last passed, the link of its lineage.
    """

    item_id: str
    values: Mapping[str, Any] = field(default_factory=dict)
    parent_id: str = ""
    source_id: str = ""
    upstream: str = ""
