"""One stage on one row, for trying it in a notebook: the code that a run executes, in a folder of its own."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffpdata.core.config import assemble
from ffpdata.core.from_classes import spec_of, stage_entry
from ffpdata.core.stage import Artifact, Item, Stage
from ffpdata.models.settings import check
from ffpdata.runners.execute import execute
from ffpdata.runners.inline import set_up
from ffpdata.storage.store import Store

if TYPE_CHECKING:
    from ffpdata.storage.scratch import DownloadsInUse


@dataclass(frozen=True)
class Trial:
    """What became of a row at a stage.

    Attributes:
        stage: its name.
        status: `ok`, `rejected`, `failed`, or `skipped` where the stage is not for such a row.
        columns: the columns that the stage wrote, files as paths; of a rejected row what was measured before. Of a
            fan-out those of the first child.
        rows: what goes on to the next stage, all columns together: one row, or one for each child of a fan-out. Each
            can be given to `try_stage` again.
        reason: why it was rejected, or the name of the exception.
        error: the measured value and the limit, or the traceback.
        notes: what the stage noted of its work.
        seconds: how long it took, without the loading of models.
        folder: where its files are.
    """

    stage: str
    status: str
    columns: dict[str, Any]
    rows: list[dict[str, Any]]
    reason: str
    error: str
    notes: dict[str, Any]
    seconds: float
    folder: Path
    _kinds: Mapping[str, Any] = field(repr=False, default_factory=dict)

    @property
    def files(self) -> dict[str, Path]:
        """The files among `columns`."""
        return {name: Path(v) for name, v in self.columns.items() if isinstance(self._kinds.get(name), Artifact)}

    @property
    def ok(self) -> bool:
        """Whether the row goes on."""
        return self.status in ("ok", "skipped")

    def __repr__(self) -> str:
        lines = [f"{self.stage}: {self.status} in {self.seconds:.2f} s"]
        if self.status == "rejected":
            lines[0] += f", {self.reason}" + (f": {self.error}" if self.error else "")
        elif self.status == "failed":
            lines[0] += f", {self.error.strip().splitlines()[-1]}"
        if len(self.rows) > 1:
            lines[0] += f", {len(self.rows)} rows, the first of them:"
        lines += [f"  {name} = {value!r}" for name, value in self.columns.items()]
        lines += [f"  note {name} = {value!r}" for name, value in self.notes.items()]
        return "\n".join(lines)


def try_stage(
    stage: Any,
    row: Mapping[str, Any],
    *,
    profile: str | None = None,
    models: Mapping[str, Any] | None = None,
    prompts: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
) -> Trial:
    """Take one row through one stage and say what became of it. No run is needed.

    A rejection and an exception of the stage are in the result, not raised. Nothing is taken from an earlier trial.

    Args:
        stage: a class, an instance (`Blur(radius=9)`), a pair of a class or name and its settings, or the name of a
            stage that comes with ffpdata.
        row: column values as an earlier stage would have written them; a file is named by its path.
        profile: name or path of the profile whose models the stage uses; none by default.
        models: roles that the profile does not fill, or that are to be filled otherwise: a class or a `ModelSpec`.
        prompts: questions of one's own: prompt name to a `Prompt`, a name or a path.
        folder: where files go; by default a temporary folder that stays until the machine's are cleared.

    Raises:
        ConfigError: a setting, a model's entry or a prompt is wrong.
        FatalError: the stage cannot start, for a model is missing.
    """
    where = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="ffpdata-trial-"))
    data = {"name": "trial", "track": "trial", "stages": [stage_entry(stage)], "prompts": dict(prompts or {})}
    roles = {role: spec_of(role, model) for role, model in (models or {}).items()}
    [made] = assemble(data, {}, None, "try_stage", profile=profile, models=roles, alone=True).build()
    for spec in made.specs.values():
        check(spec)
    values = {name: str(value) if isinstance(value, Path) else value for name, value in row.items()}
    item = Item(str(values.pop("item_id", "trial")), values)
    if not made.applies(item.values):
        return Trial(made.name, "skipped", {}, [dict(values)], "", "", {}, 0.0, where)
    store = TrialStore(where)
    try:
        set_up(made)
        outcome = execute(made, item, store, max_attempts=1, adopt=False)
    finally:
        made.teardown()
    children = [_located(each.columns, made, store) for each in outcome.children]
    measured = children[0] if children else dict(outcome.facts)
    rows = [_located(each.values, made, store) for each in outcome.items(made, item)]
    told = (outcome.reason, outcome.error, outcome.notes, outcome.seconds)
    return Trial(made.name, outcome.status, measured, rows, *told, Path(store.root), made.writes)


class TrialStore(Store):
    """The folder of a trial: what a row names and lies anywhere on this machine can be read, too."""

    def fetch(self, path: str, in_use: DownloadsInUse | None = None) -> Path:
        """Return the path of a file: as it was given, else in the folder."""
        given = Path(path)
        if given.exists():
            return given
        missing = given.is_absolute() or not self.exists(path)
        if missing:
            raise FileNotFoundError(errno.ENOENT, "no such file; name it by a path from the working directory", path)
        return super().fetch(path, in_use)


def _located(columns: Mapping[str, Any], stage: Stage, store: Store) -> dict[str, Any]:
    """Columns with the stage's files as absolute paths."""
    return {
        name: str(store.local_path(value)) if isinstance(stage.writes.get(name), Artifact) and value else value
        for name, value in columns.items()
    }
