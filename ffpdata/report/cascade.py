"""What drafts saved and lost: from the rejected edits that were made in full all the same, the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np

from ffpdata.manifests.sql_text import literal, quote
from ffpdata.report.costs import Rate

CHECK = "draft_check"
DRAFTS = ("draft", "draft_style")
CONFIDENCE = 0.95
SEED = 0

Span = tuple[float, float]


@dataclass(frozen=True)
class Cascade:
    """What became of the drafts of one track. Costs are hours, of GPUs or processors as the track's.

    Attributes:
        drafts: edits that had one.
        faulty: those whose draft showed a fault.
        audited: those of these that were made in full and have ended.
        good: those of the audited that became accepted pairs.
        rejected: faulty ones that were not made.
        accepted: accepted pairs of the track.
        spent: hours of drafts and their check.
        full: hours of each audited edit after its draft; of all that were made, where fewer than two were audited.
        by_fault: fault to its count.
    """

    drafts: int
    faulty: int
    audited: int
    good: int
    rejected: int
    accepted: int
    spent: float
    full: tuple[float, ...]
    by_fault: dict[str, int]

    @property
    def saved(self) -> float:
        """Hours that the rejected edits would have cost, without those of all drafts."""
        return self.rejected * float(np.mean(self.full)) - self.spent if self.full else -self.spent

    @property
    def saved_interval(self) -> Span | None:
        """Its interval, by a bootstrap over the audited edits; None where fewer than two were audited."""
        from scipy.stats import bootstrap

        if self.audited < 2:
            return None
        if len(set(self.full)) == 1:
            return self.saved, self.saved
        found = bootstrap(
            (np.array(self.full),),
            np.mean,
            confidence_level=CONFIDENCE,
            method="percentile",
            n_resamples=2000,
            rng=np.random.default_rng(SEED),
        ).confidence_interval
        return self.rejected * float(found.low) - self.spent, self.rejected * float(found.high) - self.spent

    @property
    def lost(self) -> float:
        """Good pairs among the rejected edits, by the audit."""
        return self.rejected * self.good / self.audited if self.audited else 0.0

    @property
    def lost_interval(self) -> Span:
        """Its interval, Wilson's; everything where nothing was audited."""
        low, high = wilson(self.good, self.audited)
        return self.rejected * low, self.rejected * high

    @property
    def lost_share(self) -> Span:
        """The same as a share of all good pairs, low and high."""
        low, high = (lost / max(1e-9, lost + self.accepted) for lost in self.lost_interval)
        return low, high

    @property
    def unspent(self) -> float:
        """Hours that the audited edits cost: what a check without an audit would have saved beside."""
        return float(sum(self.full)) if self.audited > 1 else 0.0


def wilson(good: int, of: int) -> Span:
    """Return Wilson's interval of a share, 0..1; all of it where nothing was counted."""
    from scipy.stats import binomtest

    if not of:
        return 0.0, 1.0
    found = binomtest(good, of).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def cascade(
    connection: duckdb.DuckDBPyConnection, track: str, stages: Sequence[str], rates: Mapping[str, Rate]
) -> Cascade | None:
    """Collect what became of the drafts of a track; None where it has none.

    Args:
        connection: to the views of a run.
        track: its name.
        stages: of the track, in order.
        rates: how the cost of each stage is counted.
    """
    drafting = [stage for stage in stages if stage in DRAFTS]
    if CHECK not in stages or not drafting:
        return None
    after = stages[stages.index(CHECK) + 1 :]
    cost = " + ".join(rates.get(stage, Rate(False, 0.0)).sql(f"{stage}_") for stage in after) or "0"
    mine = f"track = {literal(track)}"
    ended = "status not in ('pending')"
    rows = connection.execute(
        f"select draft_fault, coalesce(draft_audited, false), status = 'ok', {ended}, ({cost}) / 3600.0 "
        f"from items where {mine} and {quote(f'{CHECK}_key')} is not null order by item_id"
    ).fetchall()
    if not rows:
        return None
    spent = 0.0
    for stage in (*drafting, CHECK):
        once = f"select key, max({rates[stage].sql()}) as cost from {quote(stage)} where {mine} group by key"
        [(seconds,)] = connection.execute(f"select coalesce(sum(cost), 0) from ({once})").fetchall()
        spent += float(seconds) / 3600
    faulty = [row for row in rows if row[0]]
    audited = [row for row in faulty if row[1] and row[3]]
    made = audited if len(audited) > 1 else [row for row in rows if (not row[0] or row[1]) and row[3]]
    [(accepted,)] = connection.execute(f"select count(*) from items where {mine} and status = 'ok'").fetchall()
    faults: dict[str, int] = {}
    for row in faulty:
        faults[row[0]] = faults.get(row[0], 0) + 1
    return Cascade(
        drafts=len(rows),
        faulty=len(faulty),
        audited=len(audited),
        good=sum(row[2] for row in audited),
        rejected=sum(not row[1] for row in faulty),
        accepted=int(accepted),
        spent=spent,
        full=tuple(float(row[4]) for row in made),
        by_fault=dict(sorted(faults.items(), key=lambda entry: (-entry[1], entry[0]))),
    )
