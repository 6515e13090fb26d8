"""Export and import of verdicts: Parquet for programs, JSON for Label Studio.

Parquet has the current rows of the manifest `review`. The JSON is Label Studio's list of tasks: one per pair, with an
annotation per reviewer whose choices are named `verdict` and `reasons`. An import reports each verdict that it refuses
in a line, and stores the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ffpdata.core.errors import FatalError, UsageError
from ffpdata.curate.verdicts import SCHEMA, pair_key, rows
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.review.assignments import Assignments, GivenVerdict, RefusedError
from ffpdata.review.pairs import FILES, PASSED, ReviewPairs

TASK_COLUMNS: tuple[str, ...] = ("track", "item_id", "upstream", "task", "instruction")
"""Columns of a pair in its Label Studio task, beside its files."""


@dataclass
class ImportResult:
    """Result of an import.

    Attributes:
        new: number of verdicts that were stored.
        known: number of verdicts that were already stored.
        problems: one line per refused verdict.
    """

    new: int = 0
    known: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Record:
    """One verdict of a file, not yet checked; `where` names its place in the file for messages."""

    where: str
    key: str
    reviewer: str
    given: GivenVerdict
    at: datetime | None


def export_verdicts(run: RunFolder, file: Path) -> int:
    """Write the current verdicts to a file and return their number; JSON also has the pairs without one."""
    kind = _kind(file)
    with run.connect() as connection:
        table = rows(connection)
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(table, schema=SCHEMA), file)
    else:
        file.write_text(json.dumps(list(_tasks(run, table)), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return len(table)


def import_verdicts(run: RunFolder, file: Path) -> ImportResult:
    """Store the verdicts of a file in the run; those that are stored already are skipped.

    Raises:
        UsageError: the file is neither Parquet nor JSON.
        FatalError: the file cannot be read.
    """
    read = {".parquet": _from_parquet, ".json": _from_json}[_kind(file)]
    records = list(read(file))
    assignments, result = Assignments(run), ImportResult()
    for record in records:
        if isinstance(record, str):
            result.problems.append(record)
            continue
        try:
            if assignments.import_verdict(record.key, record.given, record.reviewer, record.at):
                result.new += 1
            else:
                result.known += 1
        except RefusedError as err:
            result.problems.append(f"{record.where}: {err}")
    return result


def _kind(file: Path) -> str:
    if file.suffix not in (".parquet", ".json"):
        raise UsageError(f"{file}: verdicts are exchanged as .parquet or as Label Studio's .json")
    return file.suffix


def _tasks(run: RunFolder, table: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    verdicts: dict[str, list[dict[str, Any]]] = {}
    for row in table:
        verdicts.setdefault(pair_key(row["track"], row["item_id"], row["upstream"]), []).append(row)
    pairs = ReviewPairs(run)
    for pair in pairs.by_key.values():
        if pair.status != PASSED and pair.key not in verdicts:
            continue
        row = pairs.row(pair)
        data = {name: row[name] for name in TASK_COLUMNS if name in row}
        data |= {kind: run.store.url(row[column]) for kind, column in FILES.items() if row.get(column)}
        yield {
            "data": {"pair": pair.key, **data},
            "annotations": [_annotation(each) for each in verdicts.get(pair.key, [])],
        }


def _annotation(row: Mapping[str, Any]) -> dict[str, Any]:
    def choices(name: str, values: list[str]) -> dict[str, Any]:
        return {"from_name": name, "to_name": "video", "type": "choices", "value": {"choices": values}}

    result = [choices("verdict", [row["verdict"]])]
    if row["verdict_reasons"]:
        result.append(choices("reasons", row["verdict_reasons"]))
    return {
        "completed_by": {"email": row["reviewer"]},
        "created_at": row["started_at"].isoformat(),
        "lead_time": row["verdict_seconds"],
        "result": result,
    }


def _from_parquet(file: Path) -> Iterator[_Record | str]:
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as err:
        raise FatalError(f"{file}: not a readable Parquet file ({err})") from err
    needed = {"track", "item_id", "upstream", "verdict", "reviewer"}
    missing = sorted(needed - set(table.column_names))
    if missing:
        raise FatalError(f"{file}: lacks the columns {missing}; `ffpdata review RUN --export` writes such a file")
    for number, row in enumerate(table.to_pylist(), 1):
        where = f"{file.name}: row {number} ({row['item_id']})"
        key = pair_key(str(row["track"]), str(row["item_id"]), str(row["upstream"]))
        yield _record(where, key, row["reviewer"], row)


def _from_json(file: Path) -> Iterator[_Record | str]:
    try:
        tasks = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise FatalError(f"{file}: not readable JSON ({err})") from err
    if not isinstance(tasks, list):
        raise FatalError(f"{file}: expected Label Studio's list of tasks, found {type(tasks).__name__}")
    for number, task in enumerate(tasks, 1):
        where = f"{file.name}: task {number}"
        try:
            where += f" ({task['data'].get('item_id')})"
            for annotation in task.get("annotations") or []:
                yield _from_annotation(where, task["data"], annotation)
        except (KeyError, TypeError, AttributeError) as err:
            yield f"{where}: not a task as Label Studio writes it ({type(err).__name__}: {err})"


def _from_annotation(where: str, data: Mapping[str, Any], annotation: Mapping[str, Any]) -> _Record | str:
    chosen = {entry["from_name"]: entry["value"]["choices"] for entry in annotation["result"]}
    verdicts = chosen.get("verdict", [])
    if len(verdicts) != 1:
        return f"{where}: an annotation has {len(verdicts)} verdicts, it needs one"
    by = annotation.get("completed_by")
    if isinstance(by, Mapping):
        by = by.get("email") or by.get("username") or by.get("id")
    row = {"verdict": verdicts[0], "verdict_reasons": chosen.get("reasons")}
    row |= {"verdict_seconds": annotation.get("lead_time"), "started_at": annotation.get("created_at")}
    return _record(where, str(data["pair"]), by, row)


def _record(where: str, key: str, reviewer: Any, row: Mapping[str, Any]) -> _Record | str:
    verdict, reasons, seconds = row["verdict"], row.get("verdict_reasons"), row.get("verdict_seconds")
    if not isinstance(verdict, str) or not isinstance(reasons or [], list):
        return f"{where}: verdict {verdict!r} with the reasons {reasons!r}"
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, (int, float))):
        return f"{where}: seconds must be a number, got {seconds!r}"
    at = row.get("started_at")
    if isinstance(at, str):
        try:
            at = datetime.fromisoformat(at)
        except ValueError:
            return f"{where}: {at!r} is no time"
    if at is not None and at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return _Record(where, key, str(reviewer or ""), GivenVerdict(verdict, tuple(map(str, reasons or ())), seconds), at)
