"""Verdicts on pairs: the manifest `review`, and the decision that several verdicts on one pair lead to.

A verdict belongs to one version of a pair: it names the item and the key of its last row (`upstream`), so a pair that
is made again needs a new one. Of a reviewer's verdicts on a pair the newest is the current one; `undo` removes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from ffpdata.core.keys import digest
from ffpdata.manifests.manifest import COMMON, stage_schema
from ffpdata.manifests.sql_text import literal, quote

REVIEW = "review"
"""Name of the verdicts' manifest. It is not a stage of any pipeline."""

ACCEPT, REJECT, SKIP, FLAG, UNDO = VERDICTS = ("accept", "reject", "skip", "flag", "undo")

REASONS = {
    "not_edited": "Nothing was edited",
    "object_remains": "Object or its shadow remains",
    "artifacts": "Artifacts, smears, ghosts",
    "flicker": "Flickers or jumps",
    "background_changed": "Background was changed",
    "wrong_object": "Wrong object or region",
    "wrong_instruction": "Instruction does not fit",
    "bad_source": "Source is bad",
    "other": "Something else",
}
"""Reasons of a rejection, in the order of the keys 1 to 9 of the review page."""

WRITES = {"verdict": str, "verdict_reasons": list[str], "reviewer": str, "verdict_seconds": float, "overlap": bool}
"""Columns of the manifest beside the common ones."""

SCHEMA = stage_schema(WRITES)

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Between these a stored time is read; another one is damage or malice, and Python cannot even hold all of them."""

_IDENTITY = ("track", "item_id", "upstream")


def pair_key(track: str, item_id: str, upstream: str) -> str:
    """Return the key of one version of a pair; a pair that is made again has another."""
    return digest(REVIEW, track, item_id, upstream)


def last_key(stages: Sequence[str]) -> str:
    """Return an SQL expression over `items`: the key of a pair's row in the last of these stages that it reached."""
    return "coalesce({})".format(", ".join(quote(f"{stage}_key") for stage in reversed(stages)))


@dataclass(frozen=True)
class Verdict:
    """One verdict of one reviewer: `verdict` is one of `VERDICTS`, `seconds` the time it took."""

    reviewer: str
    verdict: str
    reasons: tuple[str, ...] = ()
    seconds: float | None = None
    overlap: bool = False


CurrentVerdicts = dict[str, dict[str, Verdict]]
"""Pair key to reviewer to the current verdict."""


def read(connection: duckdb.DuckDBPyConnection) -> CurrentVerdicts:
    """Read the current verdicts.

    Args:
        connection: to the views of a run.
    """
    found: CurrentVerdicts = {}
    for row in rows(connection):
        key = pair_key(*(row[name] for name in _IDENTITY))
        found.setdefault(key, {})[row["reviewer"]] = Verdict(
            row["reviewer"], row["verdict"], tuple(row["verdict_reasons"] or ()), row["verdict_seconds"], row["overlap"]
        )
    return found


def rows(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Read the rows of the current verdicts, oldest first. A time outside `EARLIEST` to `LATEST` is None."""
    given = _given(connection)
    if given is None:
        return []
    same = f"partition by {', '.join(_IDENTITY)}, reviewer"
    newest = given.project(f"*, row_number() over ({same} order by part desc, part_row desc) as place")
    current = newest.filter(f"place = 1 and verdict <> {literal(UNDO)}").order("part, part_row")
    columns = {name: quote(name) for name in [*COMMON.names, *sorted(WRITES)]}
    first, last = (int(time.timestamp()) * 1_000_000 for time in (EARLIEST, LATEST))
    columns["started_at"] = f"case when epoch_us(started_at) between {first} and {last} then started_at end"
    names = ", ".join(f"{value} as {name}" for name, value in columns.items())
    table: list[dict[str, Any]] = pa.table(current.project(names).to_arrow_table()).to_pylist()
    return table


def events(connection: duckdb.DuckDBPyConnection) -> dict[str, Counter[str]]:
    """Count per pair key and reviewer the verdicts that were ever given, those that were undone and each undo, too."""
    found: dict[str, Counter[str]] = {}
    given = _given(connection)
    if given is not None:
        same = ", ".join([*_IDENTITY, "reviewer"])
        # A merge of parts that was interrupted leaves rows twice.
        for *identity, reviewer, count in given.aggregate(f"{same}, count(distinct started_at)").fetchall():
            found.setdefault(pair_key(*identity), Counter())[reviewer] = count
    return found


def _given(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation | None:
    """All rows ever given that are verdicts, with `part` and `part_row`; None where there are none yet."""
    view = f"{REVIEW}_history"
    columns = connection.execute("select column_name from duckdb_columns() where table_name = ?", [view]).fetchall()
    if ("verdict",) not in columns:
        return None
    known = ", ".join(map(literal, VERDICTS))
    return connection.view(view).filter(f"verdict in ({known}) and reviewer is not null")


@dataclass(frozen=True)
class Decision:
    """The reviewers' decision on one pair.

    Attributes:
        accepts: number of reviewers who accepted it.
        rejects: number who rejected it.
        reasons: of the rejections, the most frequent first.
    """

    accepts: int
    rejects: int
    reasons: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether more reviewers accepted the pair than rejected it; a tie is not accepted."""
        return self.accepts > self.rejects

    def __str__(self) -> str:
        why = f" ({', '.join(self.reasons)})" if self.reasons else ""
        return f"{self.rejects} of {self.accepts + self.rejects} reviewers rejected it{why}"


def decide(verdicts: Iterable[Verdict]) -> Decision | None:
    """Combine the verdicts on one pair; None where nobody accepted or rejected it."""
    votes = [verdict for verdict in verdicts if verdict.verdict in (ACCEPT, REJECT)]
    if not votes:
        return None
    accepts = sum(verdict.verdict == ACCEPT for verdict in votes)
    reasons = Counter(reason for verdict in votes for reason in verdict.reasons)
    ordered = tuple(sorted(reasons, key=lambda reason: (-reasons[reason], reason)))
    return Decision(accepts, len(votes) - accepts, ordered)


def decisions(current: Mapping[str, Mapping[str, Verdict]]) -> dict[str, Decision]:
    """Return pair key to decision, for every pair that was accepted or rejected."""
    found = ((key, decide(verdicts.values())) for key, verdicts in current.items())
    return {key: decision for key, decision in found if decision is not None}
