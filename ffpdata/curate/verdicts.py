"""What people decided about pairs: the manifest `review`, and what several verdicts on one pair come to.

A verdict holds for the pair that it was given on: it names the item and the key of the last row (`upstream`), so a pair
that was made anew waits for a new one. Of a reviewer's verdicts on a pair the newest holds; `undo` takes it back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from ffpdata.core.keys import digest
from ffpdata.manifests.manifest import COMMON, stage_schema
from ffpdata.manifests.views import literal, quote

REVIEW = "review"
"""The manifest of the verdicts. It is not a stage: no pipeline names it."""

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
"""Why a pair is rejected, in the order of the keys 1 to 9 of the review page."""

WRITES = {"verdict": str, "verdict_reasons": list[str], "reviewer": str, "verdict_seconds": float, "overlap": bool}
"""Columns of the manifest beside the common ones."""

SCHEMA = stage_schema(WRITES)

_IDENTITY = ("track", "item_id", "upstream")


def pair_key(track: str, item_id: str, upstream: str) -> str:
    """Name one pair as it is now; a pair that was made anew has another key."""
    return digest(REVIEW, track, item_id, upstream)


def last_key(stages: Sequence[str]) -> str:
    """SQL expression over `items`: the key of the last row that a pair has in one of the track's stages."""
    return "coalesce({})".format(", ".join(quote(f"{stage}_key") for stage in reversed(stages)))


@dataclass(frozen=True)
class Verdict:
    """One verdict of one reviewer."""

    reviewer: str
    verdict: str
    reasons: tuple[str, ...] = ()
    seconds: float | None = None
    overlap: bool = False


Holding = dict[str, dict[str, Verdict]]
"""Pair key to reviewer to the verdict that holds."""


def read(connection: duckdb.DuckDBPyConnection) -> Holding:
    """Read the verdicts that hold.

    Args:
        connection: with the views of a run.
    """
    found: Holding = {}
    for row in rows(connection):
        key = pair_key(*(row[name] for name in _IDENTITY))
        found.setdefault(key, {})[row["reviewer"]] = Verdict(
            row["reviewer"], row["verdict"], tuple(row["verdict_reasons"] or ()), row["verdict_seconds"], row["overlap"]
        )
    return found


def rows(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The rows of the verdicts that hold, oldest first."""
    view = f"{REVIEW}_history"
    known = connection.execute("select column_name from duckdb_columns() where table_name = ?", [view]).fetchall()
    if ("verdict",) not in known:  # nobody has given one yet
        return []
    same = f"partition by {', '.join(_IDENTITY)}, reviewer"
    newest = connection.view(view).project(f"*, row_number() over ({same} order by part desc, part_row desc) as place")
    holding = newest.filter(f"place = 1 and verdict <> {literal(UNDO)}").order("part, part_row")
    names = ", ".join([*COMMON.names, *sorted(WRITES)])
    table: list[dict[str, Any]] = pa.table(holding.project(names).to_arrow_table()).to_pylist()
    return table


@dataclass(frozen=True)
class Decision:
    """What the reviewers of one pair decided together.

    Attributes:
        accepts: how many accepted it.
        rejects: how many rejected it.
        reasons: why, the most frequent first.
    """

    accepts: int
    rejects: int
    reasons: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether more reviewers accepted the pair than rejected it: a tie does not."""
        return self.accepts > self.rejects

    def __str__(self) -> str:
        why = f" ({', '.join(self.reasons)})" if self.reasons else ""
        return f"{self.rejects} of {self.accepts + self.rejects} reviewers rejected it{why}"


def decide(verdicts: Iterable[Verdict]) -> Decision | None:
    """Take the verdicts on one pair together; None where nobody accepted or rejected it."""
    told = [verdict for verdict in verdicts if verdict.verdict in (ACCEPT, REJECT)]
    if not told:
        return None
    accepts = sum(verdict.verdict == ACCEPT for verdict in told)
    reasons = Counter(reason for verdict in told for reason in verdict.reasons)
    ordered = tuple(sorted(reasons, key=lambda reason: (-reasons[reason], reason)))
    return Decision(accepts, len(told) - accepts, ordered)


def decisions(holding: Mapping[str, Mapping[str, Verdict]]) -> dict[str, Decision]:
    """Pair key to what was decided, for every pair that was."""
    found = ((key, decide(verdicts.values())) for key, verdicts in holding.items())
    return {key: decision for key, decision in found if decision is not None}
