"""Export and import of verdicts: Parquet for programs, JSON for Label Studio.

Parquet has the current rows of the manifest `review`. The JSON is Label Studio's list of tasks: one per pair, with an
annotation per reviewer whose choices are named `verdict` and `reasons`. An import reports each verdict that it refuses
in a line, and stores the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ffpdata.core.errors import FatalError, UsageError, shown
from ffpdata.curate.verdicts import SCHEMA, pair_key, rows
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.review.assignments import Assignments, GivenVerdict, RefusedError, check_time
from ffpdata.review.pairs import FILES, PASSED, ReviewPairs

LONGEST_NUMBER = 300
"""Digits of a whole number in JSON; a longer one counts as infinite, and Python would refuse the whole file."""

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
        "created_at": row["started_at"].isoformat() if row["started_at"] else None,
        "lead_time": row["verdict_seconds"],
        "result": result,
    }


def _from_parquet(file: Path) -> Iterator[_Record | str]:
    try:
        table = pq.read_table(file)
        names = table.column_names
    except (OSError, pa.ArrowException, UnicodeDecodeError) as err:
        raise FatalError(f"{file}: not a readable Parquet file ({err})") from err
    missing = sorted({"track", "item_id", "upstream", "verdict", "reviewer"} - set(names))
    if missing:
        raise FatalError(f"{file}: lacks the columns {missing}; `ffpdata review RUN --export` writes such a file")
    wanted = [*_IDENTITY, "verdict", "verdict_reasons", "verdict_seconds", "reviewer", "started_at"]
    twice = [name for name in wanted if names.count(name) > 1]
    if twice:
        raise FatalError(f"{file}: has the columns {twice} twice")
    columns = {name: table.column(name) for name in wanted if name in names}
    for number in range(table.num_rows):
        where = f"{file.name}: row {number + 1}"
        try:
            row: dict[str, Any] = dict.fromkeys(wanted)
            for name, column in columns.items():
                row[name] = _value(column[number], name)
            where += f" ({_plain(row['item_id'])})"
            identity = [_text(row[name], name) for name in _IDENTITY]
            yield _record(where, pair_key(*identity), row["reviewer"], row, _COLUMNS)
        except RefusedError as err:
            yield f"{where}: {err}"


def _value(cell: pa.Scalar, name: str) -> Any:
    """A cell as a Python value, which a time of another millennium or a text that is no UTF-8 cannot be."""
    try:
        return cell.as_py()
    except (ValueError, OverflowError, pa.ArrowException) as err:
        raise _wrong(f"{name}: a {cell.type} that cannot be read ({err})") from None


def _from_json(file: Path) -> Iterator[_Record | str]:
    try:
        tasks = json.loads(file.read_text(encoding="utf-8"), parse_int=_whole)
    except (OSError, ValueError) as err:
        raise FatalError(f"{file}: not readable JSON ({err})") from err
    except RecursionError:
        raise FatalError(f"{file}: not readable JSON (lists or mappings lie too deep in each other)") from None
    if not isinstance(tasks, list):
        raise FatalError(f"{file}: expected Label Studio's list of tasks, found {type(tasks).__name__}")
    for number, task in enumerate(tasks, 1):
        where = f"{file.name}: task {number}"
        try:
            data, annotations = _mapping(_mapping(task, "the task").get("data"), "data"), task.get("annotations") or []
            where += f" ({_plain(data.get('item_id'))})"
            if not isinstance(annotations, list):
                raise _wrong(f"annotations: must be a list, got {shown(annotations)}")
        except RefusedError as err:
            yield f"{where}: not a task as Label Studio writes it ({err})"
            continue
        for place, annotation in enumerate(annotations, 1):
            here = where if len(annotations) == 1 else f"{where}, annotation {place}"
            try:
                yield _from_annotation(here, data, annotation)
            except RefusedError as err:
                yield f"{here}: {err}"


def _whole(digits: str) -> float:
    return int(digits) if len(digits) <= LONGEST_NUMBER else math.copysign(math.inf, -1 if digits[0] == "-" else 1)


def _from_annotation(where: str, data: Mapping[str, Any], annotation: Any) -> _Record:
    chosen: dict[str, Any] = {}
    entries = _mapping(annotation, "the annotation").get("result")
    if not isinstance(entries, list):
        raise _wrong(f"result: must be a list, got {shown(entries)}")
    for entry in entries:
        name = _text(_mapping(entry, "result").get("from_name"), "result.from_name")
        if name in ("verdict", "reasons"):  # what else a project of Label Studio asks is not ours
            chosen[name] = _mapping(entry.get("value"), f"{name}.value").get("choices")
    verdicts = chosen.get("verdict", [])
    if not isinstance(verdicts, list):
        raise _wrong(f"verdict.value.choices: must be a list, got {shown(verdicts)}")
    if len(verdicts) != 1:
        raise _wrong(f"an annotation has {len(verdicts)} verdicts, it needs one")
    by = annotation.get("completed_by")
    if isinstance(by, Mapping):
        by = by.get("email") or by.get("username") or by.get("id")
    row = {"verdict": verdicts[0], "verdict_reasons": chosen.get("reasons")}
    row |= {"verdict_seconds": annotation.get("lead_time"), "started_at": annotation.get("created_at")}
    return _record(where, _text(data.get("pair"), "data.pair"), by, row, _LABEL_STUDIO)


_IDENTITY = ("track", "item_id", "upstream")
_COLUMNS = {"reviewer": "reviewer", "verdict_seconds": "verdict_seconds", "started_at": "started_at"}
_LABEL_STUDIO = {"reviewer": "completed_by", "verdict_seconds": "lead_time", "started_at": "created_at"}
"""What a file calls the fields of a verdict."""


def _record(where: str, key: str, reviewer: Any, row: Mapping[str, Any], names: Mapping[str, str]) -> _Record:
    seconds, by = row.get("verdict_seconds"), reviewer
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, (int, float))):
        raise _wrong(f"{names['verdict_seconds']}: seconds must be a number, got {shown(seconds)}")
    if isinstance(by, bool) or not isinstance(by, (str, int, type(None))):
        raise _wrong(f"{names['reviewer']}: must be a name or a number, got {shown(by)}")
    reasons = row.get("verdict_reasons")
    if not isinstance(reasons, (list, type(None))):
        raise _wrong(f"reasons: must be a list, got {shown(reasons)}")
    given = GivenVerdict(
        _text(row["verdict"], "verdict"), tuple(_text(reason, "reasons") for reason in reasons or ()), seconds
    )
    return _Record(where, key, str("" if by is None else by), given, _time(row.get("started_at"), names["started_at"]))


def _time(value: Any, name: str) -> datetime | None:
    """A time, in UTC where it does not say otherwise."""
    at = value
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            raise _wrong(f"{name}: {shown(value)} is no time") from None
    elif isinstance(value, date) and not isinstance(value, datetime):
        at = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if at is not None and not isinstance(at, datetime):
        raise _wrong(f"{name}: {shown(value)} is no time")
    return check_time(at.replace(tzinfo=at.tzinfo or UTC), name) if at is not None else None


def _wrong(message: str) -> RefusedError:
    """Error of a field that holds what it cannot; the message has its name and the value."""
    return RefusedError(422, message)


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(f"{name}: must be a mapping, got {shown(value)}")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _wrong(f"{name}: must be a text, got {shown(value)}")
    return value


def _plain(value: Any) -> str:
    """An item's name as a message shows it."""
    return value if isinstance(value, str) and value.isprintable() and len(value) <= 200 else shown(value)
