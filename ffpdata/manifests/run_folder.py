"""A run folder: its frozen pipelines, its manifests and its SQL views."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml

from ffpdata import __version__
from ffpdata.core.config import Pipeline
from ffpdata.core.errors import FatalError
from ffpdata.core.file_names import shown, text_of
from ffpdata.core.stage import Stage
from ffpdata.manifests.manifest import Manifest, sql_types
from ffpdata.manifests.views import PAIR, connect, readable
from ffpdata.storage.store import Store

RUN_FILE = "run.yaml"


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
        """List the starts of this run, oldest first, each with its resolved pipeline."""
        text = self._text()
        if text != self._read[0]:  # the file of an often resumed run is long, and is read often
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            self._read = (text, [doc for doc in yaml.load_all(text, Loader=loader) if doc])
        return self._read[1]

    def record_start(
        self,
        pipeline: Pipeline,
        source: str,
        limit: int | None,
        stages: str = "",
        *,
        built: Sequence[Stage] | None = None,
    ) -> None:
        """Append the resolved pipeline of this start to `run.yaml`; earlier ones stay as they are.

        Args:
            pipeline: resolved.
            source: the input.
            limit: only so many of its entries.
            stages: only these stages, as `run --stages` names them.
            built: the stage objects of the pipeline, where they are there already.
        """
        entry = {
            "started_at": datetime.now(UTC).isoformat("T", "seconds"),
            "ffpdata": __version__,
            "command": [shown(text_of(word)) for word in (Path(sys.argv[0]).name, *sys.argv[1:])],
            "input": shown(text_of(source)),
            "limit": limit,
            "stages": stages,
            "pipeline": pipeline.model_dump(mode="json"),
            "columns": {stage.name: sql_types(stage.writes) for stage in built or pipeline.build()},
        }
        if pipeline.interactive:
            entry["not_importable"] = pipeline.interactive
        text = yaml.safe_dump(entry, sort_keys=False, allow_unicode=True, explicit_start=True)
        self.store.write(RUN_FILE, self._text() + text.encode())

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

    def pair_makers(self) -> dict[str, list[set[str]]]:
        """Per track and column of `PAIR` the stages that write it, as of the newest start."""
        return {
            track: [{stage for stage, written in start["columns"].items() if column in written} for column in PAIR]
            for track, start in self.latest().items()
        }

    def pipelines(self) -> dict[str, Pipeline]:
        """Return per track the pipeline of its newest start."""
        return {track: Pipeline.model_validate(start["pipeline"]) for track, start in self.latest().items()}

    @contextmanager
    def reading(self, *, unsafe: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """Connect for the length of a with block, in which unreadable manifests are a FatalError."""
        with readable(self.store), self.connect(unsafe=unsafe) as connection:
            yield connection

    def connect(self, *, unsafe: bool = False) -> duckdb.DuckDBPyConnection:
        """Connect DuckDB, with a view per stage, `<stage>_history` and the wide view `items`.

        SQL reaches the manifests of this run alone, or with `unsafe` also other files and extensions.
        """
        columns: dict[str, dict[str, str]] = {}
        for start in self.starts():
            for stage, types in start.get("columns", {}).items():
                columns.setdefault(stage, {}).update(types)
        return connect(self.store, self.tracks(), columns, unsafe=unsafe)
