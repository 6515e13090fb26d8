"""Assigns pairs to reviewers by leases, so that no two judge the same pair by accident, and stores their verdicts."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from ffpdata.core.errors import FfpdataError, nearest, shown
from ffpdata.core.keys import digest
from ffpdata.curate.verdicts import (
    ACCEPT,
    EARLIEST,
    FLAG,
    REASONS,
    REJECT,
    REVIEW,
    SCHEMA,
    SKIP,
    UNDO,
    VERDICTS,
    Verdict,
)
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.review.agreement import agreements
from ffpdata.review.pairs import PairFilter, ReviewPair, ReviewPairs

LEASE_SECONDS = 600.0
OVERLAP = 0.1
"""Fraction of the pairs in the overlap sample."""

OVERLAP_REVIEWERS = 2
"""Number of reviewers of a pair in the overlap sample; other pairs have one."""

REFRESH_SECONDS = 10.0
"""Least seconds between two readings of a run that is still going on, when a reviewer has no pairs left."""

MAX_SECONDS = 86_400.0
AHEAD = timedelta(days=1)
"""So far the clock of whoever gave a verdict may be ahead of ours."""
REVIEWER = re.compile(r"\w[\w .@+-]{0,63}")
"""Valid names of reviewers."""


class RefusedError(FfpdataError):
    """A request that is refused.

    Attributes:
        status: the HTTP status of the response.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class GivenVerdict:
    """A verdict as a reviewer submits it.

    Attributes:
        verdict: one of `curate.verdicts.VERDICTS`.
        reasons: of a rejection, from `curate.verdicts.REASONS`.
        seconds: time the reviewer took.
    """

    verdict: str
    reasons: tuple[str, ...] = ()
    seconds: float | None = None

    def check(self) -> None:
        """Raise RefusedError where it is not valid."""
        if self.verdict not in VERDICTS:
            raise RefusedError(422, f"verdict {shown(self.verdict)}{nearest(self.verdict, VERDICTS)}")
        for reason in self.reasons:
            if reason not in REASONS:
                raise RefusedError(422, f"reason {shown(reason)}{nearest(reason, REASONS)}")
        if self.verdict == REJECT and not self.reasons:
            raise RefusedError(422, "a rejection needs a reason")
        if self.verdict != REJECT and self.reasons:
            raise RefusedError(422, f"{self.verdict!r} has no reasons: only a rejection has")
        if len(set(self.reasons)) < len(self.reasons):
            raise RefusedError(422, "a reason is given twice")
        if self.seconds is not None and not 0 <= self.seconds <= MAX_SECONDS:  # not a number is not in between, either
            raise RefusedError(422, f"seconds must be in [0, {MAX_SECONDS:g}], got {shown(self.seconds)}")


class Assignments:
    """Leases pairs to reviewers and stores verdicts; threads may share it.

    Args:
        run: the run folder.
        overlap: fraction of the pairs that `OVERLAP_REVIEWERS` people judge, to measure their agreement.
        lease_seconds: duration of a lease. After it, the reviewer may still judge the pair until it is leased to
            somebody else.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        run: RunFolder,
        overlap: float = OVERLAP,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._overlap = overlap
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._lock = threading.RLock()
        self._leases: dict[str, dict[str, float]] = {}  # pair key to reviewer to the time of expiry
        # Pair key and reviewer to the verdicts without a number that came since the pair was handed out.
        self._unnumbered: dict[tuple[str, str], set[GivenVerdict]] = {}
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self.refresh()

    def refresh(self) -> None:
        """Read the run again: it may have new pairs, and imported verdicts."""
        with self._lock:  # a verdict submitted meanwhile must not be lost
            self.pairs = ReviewPairs(self._run)
            self._select = lru_cache(maxsize=64)(self.pairs.select)
            self._read_at = self._clock()

    def lease(self, reviewer: str, filters: PairFilter, count: int) -> list[ReviewPair]:
        """Lease up to `count` pairs to a reviewer: first those leased to them already, then others."""
        with self._lock:
            found = self._lease_now(reviewer, filters, count)
            if not found and self._clock() - self._read_at > REFRESH_SECONDS:
                self.refresh()
                found = self._lease_now(reviewer, filters, count)
            return found

    def _lease_now(self, reviewer: str, filters: PairFilter, count: int) -> list[ReviewPair]:
        now = self._clock()
        by_key = self.pairs.by_key
        leased = [by_key[key] for key, leases in self._leases.items() if reviewer in leases and key in by_key]
        mine = [pair for pair in leased if filters.matches(pair) and self._is_open(pair.key, reviewer, filters, now)]
        keys = {pair.key for pair in mine}
        new = (p for p in self._select(filters) if p.key not in keys and self._is_open(p.key, reviewer, filters, now))
        pairs = list(islice(chain(mine, new), count))
        for pair in pairs:
            self._start_lease(pair.key, reviewer, now)
            self._unnumbered.pop((pair.key, reviewer), None)
        return pairs

    def _is_open(self, key: str, reviewer: str, filters: PairFilter, now: float) -> bool:
        """Return whether a reviewer may get a pair: they have not judged it, and not enough others judge it."""
        verdicts = self.pairs.verdicts.get(key, {})
        if filters.flagged:
            flagged = any(verdict.verdict == FLAG for name, verdict in verdicts.items() if name != reviewer)
            return flagged and verdicts.get(reviewer) is None
        if reviewer in verdicts:
            return False
        # A skipped pair goes to another reviewer.
        others = {name for name, verdict in verdicts.items() if verdict.verdict != SKIP}
        others |= {name for name, until in self._leases.get(key, {}).items() if name != reviewer and until > now}
        return len(others) < (OVERLAP_REVIEWERS if self.in_overlap(key) else 1)

    def _start_lease(self, key: str, reviewer: str, now: float) -> None:
        leases = self._leases.setdefault(key, {})
        for name in [name for name, until in leases.items() if until <= now]:
            del leases[name]
        leases[reviewer] = now + self._lease_seconds

    def in_overlap(self, key: str) -> bool:
        """Return whether a pair is in the sample that several people judge; it follows from the key alone."""
        return int(key[:8], 16) < self._overlap * 16**8

    def find(self, key: str) -> ReviewPair:
        """Return a pair by its key; raises RefusedError where there is none."""
        pair = self.pairs.by_key.get(key)
        if pair is None:
            raise RefusedError(404, "there is no such pair; it may have been made anew since")
        return pair

    def has_lease(self, reviewer: str, key: str) -> bool:
        """Return whether a pair is leased to a reviewer."""
        with self._lock:
            return reviewer in self._leases.get(key, {})

    def events(self, reviewer: str, key: str) -> int:
        """Return how often a reviewer has given or undone a verdict on a pair: the number of their next one."""
        return self.pairs.events[key][reviewer] if key in self.pairs.events else 0

    def submit(self, reviewer: str, key: str, given: GivenVerdict, event: int | None = None) -> Verdict:
        """Store a reviewer's verdict; it is durable in the run folder when this returns.

        The newest verdict again changes nothing, so that a client without an answer can repeat it. An older one again
        is refused: what a line repeats late, or another tab of the reviewer sends, must not replace what came after it.

        Args:
            reviewer: their name.
            key: of the pair.
            given: the verdict.
            event: its number, as `events` told it when the reviewer saw the pair. Without a number, what was sent
                already since the pair was leased counts as a repetition.

        Returns:
            The stored verdict.

        Raises:
            RefusedError: the verdict is not valid, it is a repetition, or the pair is not leased to this reviewer.
        """
        given.check()
        with self._lock:
            pair = self.find(key)
            verdicts = self.pairs.verdicts.setdefault(key, {})
            before = verdicts.get(reviewer)
            verdict = Verdict(reviewer, given.verdict, given.reasons, given.seconds, self.in_overlap(key))
            if self._is_repeated(reviewer, key, given, event, before):
                return before or verdict
            if given.verdict == UNDO:
                if before is None:
                    if event is None and self.has_lease(reviewer, key):
                        return verdict  # undone already
                    raise RefusedError(409, "there is nothing to undo: you have given no verdict on this pair")
            elif not self.has_lease(reviewer, key):
                if before and (before.verdict, before.reasons) == (given.verdict, given.reasons):
                    return before
                raise RefusedError(409, "this pair is not leased to you; somebody else may have it. Ask for the next")
            self._run.manifest.append(REVIEW, [self._row(pair, verdict)], SCHEMA)
            self._count(reviewer, key)
            if event is None:
                self._unnumbered.setdefault((key, reviewer), set()).add(given)
            if given.verdict == UNDO:
                del verdicts[reviewer]
                self._start_lease(key, reviewer, self._clock())
            else:
                verdicts[reviewer] = verdict
                self._end_lease(key, reviewer)
            return verdict

    def _is_repeated(
        self, reviewer: str, key: str, given: GivenVerdict, event: int | None, before: Verdict | None
    ) -> bool:
        """Return whether a verdict is the newest one again; an older one raises RefusedError."""
        done = self.events(reviewer, key)
        newest = (before.verdict, before.reasons) if before else (UNDO, ())
        if event is None:
            if newest != (given.verdict, given.reasons) and given in self._unnumbered.get((key, reviewer), ()):
                raise RefusedError(
                    409, "you have sent this already, and something else after it: ask for the pair again"
                )
            return False
        if event == done - 1 and newest == (given.verdict, given.reasons):
            return True
        if event != done:
            holds = f"{before.verdict!r} holds" if before else "no verdict of yours holds"
            raise RefusedError(409, f"this is number {event} of your verdicts on this pair, {done} is next: {holds}")
        return False

    def _count(self, reviewer: str, key: str) -> None:
        self.pairs.events.setdefault(key, Counter())[reviewer] += 1

    def import_verdict(self, key: str, given: GivenVerdict, reviewer: str, at: datetime | None = None) -> bool:
        """Store a verdict that was given elsewhere, without a lease.

        Args:
            key: of the pair.
            given: the verdict.
            reviewer: who gave it.
            at: when, with a time zone, between `EARLIEST` and a day from now; now where it is None.

        Returns:
            False where the reviewer's verdict on the pair is already the same.

        Raises:
            RefusedError: the verdict, the reviewer's name or the time is not valid, or there is no such pair.
        """
        given.check()
        check_reviewer(reviewer)
        if at is not None:
            check_time(at, "at")
        with self._lock:
            pair = self.find(key)
            verdicts = self.pairs.verdicts.setdefault(key, {})
            before = verdicts.get(reviewer)
            if given.verdict == UNDO:
                raise RefusedError(422, "an import has verdicts that hold: `undo` is none")
            if before and (before.verdict, before.reasons) == (given.verdict, given.reasons):
                return False
            verdict = Verdict(reviewer, given.verdict, given.reasons, given.seconds, self.in_overlap(key))
            self._run.manifest.append(REVIEW, [self._row(pair, verdict, at)], SCHEMA)
            self._count(reviewer, key)
            verdicts[reviewer] = verdict
            return True

    def release(self, reviewer: str, keys: Sequence[str]) -> None:
        """End leases of pairs that a reviewer will not judge now."""
        with self._lock:
            for key in keys:
                self._end_lease(key, reviewer)

    def _end_lease(self, key: str, reviewer: str) -> None:
        leases = self._leases.get(key, {})
        leases.pop(reviewer, None)
        if not leases:
            self._leases.pop(key, None)

    def progress(self) -> dict[str, Any]:
        """Return the counts of the review, of each reviewer, and the reviewers' agreement, as JSON data."""
        with self._lock:
            verdicts = {key: dict(self.pairs.verdicts.get(key, {})) for key in self.pairs.by_key}
        reviewers: dict[str, dict[str, Any]] = {}
        for by_reviewer in verdicts.values():
            for name, verdict in by_reviewer.items():
                counts = reviewers.setdefault(name, dict.fromkeys((ACCEPT, REJECT, SKIP, FLAG), 0) | {"seconds": 0.0})
                counts[verdict.verdict] += 1
                counts["seconds"] += verdict.seconds or 0.0
        for counts in reviewers.values():
            judged = counts[ACCEPT] + counts[REJECT] + counts[SKIP] + counts[FLAG]
            counts["per_hour"] = judged * 3600 / counts["seconds"] if counts["seconds"] else None
        return {
            "pairs": len(verdicts),
            "reviewed": sum(any(v.verdict in (ACCEPT, REJECT) for v in named.values()) for named in verdicts.values()),
            "reviewers": reviewers,
            "agreement": [asdict(agreement) for agreement in agreements(verdicts.values())],
        }

    def _row(self, pair: ReviewPair, verdict: Verdict, at: datetime | None = None) -> dict[str, Any]:
        row = self.pairs.row(pair)
        return {
            "item_id": row["item_id"],
            "parent_id": row["parent_id"],
            "entered_id": row["item_id"],
            "source_id": row["source_id"],
            "track": pair.track,
            "stage": REVIEW,
            "key": digest(REVIEW, pair.key, verdict.reviewer),
            "upstream": row["upstream"],
            "status": "ok",
            "attempt": 1,
            "started_at": at or datetime.now(UTC),
            "worker": self._worker,
            "verdict": verdict.verdict,
            "verdict_reasons": list(verdict.reasons),
            "reviewer": verdict.reviewer,
            "verdict_seconds": verdict.seconds,
            "overlap": verdict.overlap,
        }


def check_reviewer(name: str) -> str:
    """Return a reviewer's name, or raise RefusedError."""
    if not REVIEWER.fullmatch(name):
        rule = "1 to 64 letters, digits and . @ + - _, beginning with a letter"
        raise RefusedError(422, f"reviewer {shown(name)}: {rule}")
    return name


def check_time(at: datetime, name: str) -> datetime:
    """Return the time of a verdict, or raise RefusedError, which calls it `name`."""
    if not EARLIEST <= at <= datetime.now(UTC) + AHEAD:
        raise RefusedError(422, f"{name}: {at.isoformat()} is not between {EARLIEST:%Y-%m-%d} and tomorrow")
    return at
