"""Reads a run folder again, every part and every file that its current rows name, and lists what is gone or damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import duckdb

from ffpdata.core.errors import DamagedError
from ffpdata.core.findings import Findings
from ffpdata.manifests.manifest import COMMON, INPUTS
from ffpdata.manifests.missing_parts import MissingParts
from ffpdata.manifests.part_files import THREADS, read_part
from ffpdata.manifests.run_folder import REMEDY, RUN_FILE, RunFolder
from ffpdata.manifests.sql_text import literal, quote
from ffpdata.manifests.tombstones import Tombstones
from ffpdata.storage.digests import wrong_content

BATCH = 4096
"""Files whose rows are held at a time."""


@dataclass
class RunReport(Findings):
    """What `check_run` found.

    Attributes:
        parts: parts of manifests that were read.
        files: files that current rows name.
        unknown: files of which an earlier release recorded nothing: only their presence was checked.
        lost: files that are gone or damaged, by relative path, and what is wrong with each; `problems` has them, too.
    """

    parts: int = 0
    files: int = 0
    unknown: int = 0
    lost: dict[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """One line."""
        old = f" ({self.unknown} of an earlier release, of which only the presence is known)" if self.unknown else ""
        return f"{self.files} files{old} and {self.parts} parts of manifests read, {self.state}"


def check_run(run: RunFolder, progress: Callable[[int, int], None] | None = None) -> RunReport:
    """Check a run folder; nothing in it is changed. It may be going on.

    Where a manifest is damaged, the files are not checked: it is the manifests that name them.

    Args:
        run: the run.
        progress: called with the number of files done and of files in all.
    """
    report = RunReport()
    for number in run.changed_starts():
        report.problems.append(f"{RUN_FILE}: start {number} is not as it was written: {REMEDY}")
    sound = _check_parts(run, report)
    if sound:
        with run.reading() as connection:
            _check_files(run, connection, report, progress)
    return report


def _check_parts(run: RunFolder, report: RunReport) -> bool:
    """Check the manifests; False where one is damaged."""
    parts = [part for parts in run.manifest.listing().values() for part in parts]
    with ThreadPoolExecutor(THREADS) as pool:
        damaged = [why for why in pool.map(lambda part: _wrong_part(run, part), parts) if why]
    report.parts = len(parts)
    report.problems += damaged
    if damaged:
        return False
    missing = MissingParts(run.manifest, [stage for stages in run.tracks().values() for stage in stages])
    report.problems += [
        f"manifests/{stage}: a part is gone: start the run again, and what it told is read back or made anew"
        for stage in missing.since_last_start(run.manifest.parts(INPUTS))
    ]
    return True


def _wrong_part(run: RunFolder, part: str) -> str:
    try:
        read_part(run.store, part)
    except DamagedError as err:
        return str(err)
    except FileNotFoundError:  # a start that goes on has merged it
        return ""
    return ""


def _check_files(
    run: RunFolder,
    connection: duckdb.DuckDBPyConnection,
    report: RunReport,
    progress: Callable[[int, int], None] | None,
) -> None:
    sources = list(_file_columns(run, connection))
    total = sum(len(source) for source in sources)

    def wrong(named: tuple[str, str | None]) -> tuple[str, bool, str]:
        path, facts = named
        known: dict[str, Any] | None = json.loads(facts) if facts else None
        return path, known is None, wrong_content(run.store, path, known)

    with ThreadPoolExecutor(THREADS) as pool:
        for source in sources:
            for batch in source.to_arrow_reader(BATCH):
                for path, unknown, why in pool.map(wrong, zip(*(c.to_pylist() for c in batch.columns), strict=True)):
                    report.files += 1
                    report.unknown += unknown
                    if why:
                        report.lost[path] = why
                        report.problems.append(f"{path}: {why}")
                    if progress:
                        progress(report.files, total)


def _file_columns(run: RunFolder, connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyRelation]:
    """Per stage and column that has files, their paths and what is recorded of each, as JSON.

    Several items may share a file; what the newest outcome recorded counts. Files of what was taken down are gone, and
    are not missed.
    """
    stones = Tombstones.load(run.store)
    for stage in dict.fromkeys(stage for stages in run.tracks().values() for stage in stages):
        view = connection.view(stage)
        if stones:
            view = view.filter(f"not {stones.condition(view.columns)}")
        for name, kind in zip(view.columns, view.types, strict=True):
            if name in COMMON.names or str(kind) != "VARCHAR":
                continue
            path, entry = quote(name), literal(f'$."{name}"')
            named = view.filter(f"starts_with({path}, {literal(f'artifacts/{name}/')})")
            facts = f"arg_max(artifacts->{entry}, started_at)::varchar as facts"
            yield named.aggregate(f"{path} as file, {facts}").order("file")
