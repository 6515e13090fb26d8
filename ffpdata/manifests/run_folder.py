"""A run folder: its frozen pipelines, its manifests and its SQL views."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml
from pydantic import ValidationError

from ffpdata import __version__
from ffpdata.core import yaml_text
from ffpdata.core.config import Pipeline
from ffpdata.core.errors import DamagedError, FatalError, shown
from ffpdata.core.file_names import printable, text_of
from ffpdata.core.keys import digest
from ffpdata.core.stage import Item, Stage
from ffpdata.manifests.manifest import Manifest, sql_types
from ffpdata.manifests.views import PAIR, connect, readable
from ffpdata.storage.store import Store

RUN_FILE = "run.yaml"
REMEDY = "put it back from a copy, or delete it and start the run again with its commands: finished items are kept"
_BEGINS, _SEAL = b"---", b" # sha256 "
"""A start begins with a line of both and the hash of the lines that follow."""
MAX_VALUES = 1_000_000
"""Values of one start in `run.yaml`; one of ours has 2,000."""


def _sha256(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


class RunFolder:
    """One run, local or remote. Several tracks may share it: rows have their track, artifacts are named by content."""

    def __init__(self, root: str | Path) -> None:
        self.store = Store(root)
        self.manifest = Manifest(self.store)
        self._read: tuple[bytes, list[dict[str, Any]]] = (b"", [])

    @classmethod
    def existing(cls, root: str | Path) -> RunFolder:
        """Open an existing run; raises FatalError where the folder is none."""
        run = cls(root)
        if not run.store.exists(RUN_FILE):
            raise FatalError(f"{run.store.root} is no run folder: it has no {RUN_FILE}. Start one with `ffpdata run`.")
        return run

    def starts(self) -> list[dict[str, Any]]:
        """List the starts of this run, oldest first, each with its resolved pipeline.

        Raises:
            DamagedError: `run.yaml` is cut off, or otherwise none that a run wrote.
        """
        text = self._text()
        # The file of an often resumed run is long, and is read often. An empty one is damaged, a missing one is not.
        if text != self._read[0] or (not text and self.store.exists(RUN_FILE)):
            try:
                found = [doc for doc in yaml_text.load_all(text, MAX_VALUES) if doc]
            except yaml_text.WrongYamlError as err:
                raise self._damaged(" ".join(str(err).split())) from err
            if not found or not text.endswith(b"\n"):
                raise self._damaged("its end is missing")
            for number, start in enumerate(found, 1):
                if why := _problem(start):
                    raise self._damaged(f"start {number}: {why}")
            self._read = (text, found)
        return self._read[1]

    def starts_of(self, track: str) -> list[dict[str, Any]]:
        """List the starts of one track, oldest first."""
        return [start for start in self.starts() if start["pipeline"]["track"] == track]

    def record_start(
        self,
        pipeline: Pipeline,
        source: str,
        limit: int | None,
        stages: str = "",
        *,
        built: Sequence[Stage] | None = None,
        items: Sequence[Item] | None = None,
    ) -> None:
        """Append the resolved pipeline of this start to `run.yaml`; earlier ones stay as they are.

        Args:
            pipeline: resolved.
            source: the input.
            limit: only so many of its entries.
            stages: only these stages, as `run --stages` names them.
            built: the stage objects of the pipeline, where they are there already.
            items: the entries of the input, where they were listed: their number and a digest are kept, by which the
                next start knows whether they changed.
        """
        built = built or pipeline.build()
        entry = {
            "started_at": datetime.now(UTC).isoformat("T", "seconds"),
            "ffpdata": __version__,
            "command": [printable(text_of(word)) for word in (Path(sys.argv[0]).name, *sys.argv[1:])],
            "input": printable(text_of(source)),
            "limit": limit,
            "stages": stages,
            "pipeline": pipeline.model_dump(mode="json"),
            "columns": {stage.name: sql_types(stage.writes) for stage in built},
            "keys": {stage.name: stage.fixed_key(stage.models) for stage in built},
            "idle": [stage.name for stage in built if stage.idle],
        }
        if items is not None:
            entry["entries"] = {
                "count": len(items),
                "digest": digest("\n".join(sorted(item.item_id for item in items))),
            }
        if pipeline.interactive:
            entry["not_importable"] = pipeline.interactive
        text = yaml.safe_dump(entry, sort_keys=False, allow_unicode=True).encode()
        self.store.write(RUN_FILE, self._text() + _BEGINS + _SEAL + _sha256(text) + b"\n" + text)

    def changed_starts(self) -> list[int]:
        """Numbers of the starts whose text in `run.yaml` is not as it was written, from 1 on.

        Each has its hash in a comment, which only `ffpdata verify` reads: whoever changes the file by hand may. Starts
        of an earlier release have none.
        """
        texts = re.split(rb"^" + _BEGINS, self._text(), flags=re.MULTILINE)
        if len(texts) < 2 or texts[0]:
            return [1]
        sealed, changed = False, []
        for number, text in enumerate(texts[1:], 1):
            seal, _, body = text.partition(b"\n")
            sealed |= seal != b""
            if sealed and seal != _SEAL + _sha256(body):
                changed.append(number)
        return changed

    def _damaged(self, why: str) -> DamagedError:
        return DamagedError(f"{self.store.url(RUN_FILE)} is damaged: {why}: {REMEDY}")

    def _text(self) -> bytes:
        try:
            return self.store.read(RUN_FILE)
        except FileNotFoundError:
            return b""

    def latest(self) -> dict[str, dict[str, Any]]:
        """Return the newest start of each track."""
        return {start["pipeline"]["track"]: start for start in self.starts()}

    def tracks(self) -> dict[str, list[str]]:
        """Return per track the names of its stages in order, as of its newest start."""
        return {track: [s["name"] for s in start["pipeline"]["stages"]] for track, start in self.latest().items()}

    def idle(self) -> dict[str, list[str]]:
        """Return per track the names of the stages that pass every item, as its newest start was configured."""
        return {track: start.get("idle", []) for track, start in self.latest().items()}

    def pair_makers(self) -> dict[str, list[set[str]]]:
        """Per track and column of `PAIR` the stages that write it, as of the newest start."""
        return {
            track: [{stage for stage, written in start["columns"].items() if column in written} for column in PAIR]
            for track, start in self.latest().items()
        }

    def pipelines(self) -> dict[str, Pipeline]:
        """Return per track the pipeline of its newest start; raises FatalError where `run.yaml` holds a wrong one."""
        try:
            return {track: Pipeline.model_validate(start["pipeline"]) for track, start in self.latest().items()}
        except ValidationError as err:
            first = err.errors()[0]
            entry = ".".join(("pipeline", *map(str, first["loc"])))
            got = shown(first.get("input"))
            raise FatalError(
                f"{self.store.root}/{RUN_FILE} cannot be read: {entry}: {first['msg']} (got {got}). Another release "
                "wrote it, or it was changed by hand."
            ) from None

    @contextmanager
    def reading(self, *, unsafe: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """Connect for the length of a with block, in which unreadable manifests are a FatalError."""
        with readable(self.store), self.connect(unsafe=unsafe) as connection:
            yield connection

    def connect(self, *, unsafe: bool = False) -> duckdb.DuckDBPyConnection:
        """Connect DuckDB, with a view per stage, `<stage>_history`, the wide view `items`, and `yields`.

        SQL reaches the manifests of this run alone, or with `unsafe` also other files and extensions.
        """
        columns: dict[str, dict[str, str]] = {}
        for start in self.starts():
            for stage, types in start.get("columns", {}).items():
                columns.setdefault(stage, {}).update(types)
        return connect(self.store, self.tracks(), columns, idle=self.idle(), unsafe=unsafe)


def _problem(start: Any) -> str:
    """What of a start is not as a run writes it, as far as everything relies on it; empty where it is whole."""
    if not isinstance(start, Mapping) or not isinstance(start.get("pipeline"), Mapping):
        return "it has no `pipeline`"
    pipeline, columns = start["pipeline"], start.get("columns", {})
    if not isinstance(pipeline.get("track"), str):
        return f"pipeline.track is {shown(pipeline.get('track'))}, a name was expected"
    stages = pipeline.get("stages")
    if not isinstance(stages, list) or not stages:
        return f"pipeline.stages is {shown(stages)}, a list of stages was expected"
    names = [entry.get("name") if isinstance(entry, Mapping) else None for entry in stages]
    for name in (*names, *columns) if isinstance(columns, Mapping) else (None,):
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            return f"{shown(name)} is no name of a stage"
    if not set(names) <= set(columns):
        return "its end is missing: `columns` does not tell of every stage"
    for written in columns.values():
        if not isinstance(written, Mapping) or not all(isinstance(column, str) for column in written):
            return f"columns: {shown(written)} does not map columns to types"
    return ""
