"""Who judges which pair: leases, so that no two reviewers get the same one, and verdicts, written as they are given."""

from __future__ import annotations

import math
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from ffpdata.core.errors import FfpdataError, nearest
from ffpdata.core.keys import digest
from ffpdata.curate.verdicts import ACCEPT, FLAG, REASONS, REJECT, REVIEW, SCHEMA, SKIP, UNDO, VERDICTS, Verdict
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.review.agreement import agreements
from ffpdata.review.pairs import PairFilter, ReviewPair, ReviewPairs

LEASE_SECONDS = 600.0
OVERLAP = 0.1
OVERLAP_REVIEWERS = 2
"""So many people judge a pair of the overlap sample; any other pair one."""

REFRESH_SECONDS = 10.0
"""A reviewer without pairs has the run read again at most so often: it may still go on."""

MAX_SECONDS = 86_400.0
REVIEWER = re.compile(r"\w[\w .@+-]{0,63}")
"""Names that reviewers may have."""


class RefusedError(FfpdataError):
    """A verdict that does not count. `status` is the HTTP status that tells so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class GivenVerdict:
    """A verdict as a reviewer gives it."""

    verdict: str
    reasons: tuple[str, ...] = ()
    seconds: float | None = None

    def check(self) -> None:
        """Raise RefusedError where it is none."""
        if self.verdict not in VERDICTS:
            raise RefusedError(422, f"verdict {self.verdict!r}{nearest(self.verdict, VERDICTS)}")
        for reason in self.reasons:
            if reason not in REASONS:
                raise RefusedError(422, f"reason {reason!r}{nearest(reason, REASONS)}")
        if self.verdict == REJECT and not self.reasons:
            raise RefusedError(422, "a rejection needs a reason")
        if self.verdict != REJECT and self.reasons:
            raise RefusedError(422, f"{self.verdict!r} has no reasons: only a rejection has")
        if len(set(self.reasons)) < len(self.reasons):
            raise RefusedError(422, "a reason stands there twice")
        if self.seconds is not None and not (math.isfinite(self.seconds) and 0 <= self.seconds <= MAX_SECONDS):
            raise RefusedError(422, f"seconds must lie in [0, {MAX_SECONDS:g}], got {self.seconds}")


class Assignments:
    """Hands out pairs and takes verdicts; threads may share it.

    Args:
        run: the run folder.
        overlap: fraction of the pairs that `OVERLAP_REVIEWERS` people judge, to know how far they agree.
        lease_seconds: so long a pair is kept for the reviewer who got it. One who comes later than that may still
            judge it, unless somebody else has got it since.
        clock: seconds that only grow.
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
        self._leases: dict[str, dict[str, float]] = {}  # pair key to reviewer to the time at which it runs out
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self.refresh()

    def refresh(self) -> None:
        """Read the run again: new pairs, and verdicts that were imported."""
        with self._lock:  # what is given meanwhile must not be forgotten
            self.pairs = ReviewPairs(self._run)
            self._choose = lru_cache(maxsize=64)(self.pairs.choose)
            self._read_at = self._clock()

    def take(self, reviewer: str, wanted: PairFilter, count: int) -> list[ReviewPair]:
        """Lease up to `count` pairs to a reviewer: first those that are leased to them already, then new ones."""
        with self._lock:
            found = self._take(reviewer, wanted, count)
            if not found and self._clock() - self._read_at > REFRESH_SECONDS:
                self.refresh()
                found = self._take(reviewer, wanted, count)
            return found

    def _take(self, reviewer: str, wanted: PairFilter, count: int) -> list[ReviewPair]:
        now = self._clock()
        by_key = self.pairs.by_key
        held = [by_key[key] for key, leases in self._leases.items() if reviewer in leases and key in by_key]
        mine = [pair for pair in held if wanted.fits(pair) and self._open_for(pair.key, reviewer, wanted, now)]
        known = {pair.key for pair in mine}
        new = (p for p in self._choose(wanted) if p.key not in known and self._open_for(p.key, reviewer, wanted, now))
        taken = list(islice(chain(mine, new), count))
        for pair in taken:
            self._lease(pair.key, reviewer, now)
        return taken

    def _open_for(self, key: str, reviewer: str, wanted: PairFilter, now: float) -> bool:
        verdicts = self.pairs.verdicts.get(key, {})
        if wanted.flagged:
            flagged = any(verdict.verdict == FLAG for name, verdict in verdicts.items() if name != reviewer)
            return flagged and verdicts.get(reviewer) is None
        if reviewer in verdicts:
            return False
        # Whoever skips a pair leaves it to somebody else.
        others = {name for name, verdict in verdicts.items() if verdict.verdict != SKIP}
        others |= {name for name, until in self._leases.get(key, {}).items() if name != reviewer and until > now}
        return len(others) < (OVERLAP_REVIEWERS if self.in_overlap(key) else 1)

    def _lease(self, key: str, reviewer: str, now: float) -> None:
        leases = self._leases.setdefault(key, {})
        for name in [name for name, until in leases.items() if until <= now]:
            del leases[name]
        leases[reviewer] = now + self._lease_seconds

    def in_overlap(self, key: str) -> bool:
        """Whether a pair belongs to the sample that several people judge. It follows from the pair alone."""
        return int(key[:8], 16) < self._overlap * 16**8

    def find(self, key: str) -> ReviewPair:
        """Return a pair by its key; RefusedError where there is none."""
        pair = self.pairs.by_key.get(key)
        if pair is None:
            raise RefusedError(404, "there is no such pair; it may have been made anew since")
        return pair

    def holds(self, reviewer: str, key: str) -> bool:
        """Whether a pair is leased to a reviewer."""
        with self._lock:
            return reviewer in self._leases.get(key, {})

    def give(self, reviewer: str, key: str, given: GivenVerdict) -> Verdict:
        """Take a verdict. It is in the run folder, durable, when this returns.

        The same verdict once more changes nothing: whoever got no answer may repeat it.

        Raises:
            RefusedError: it is malformed, or the pair is not leased to this reviewer.
        """
        given.check()
        with self._lock:
            pair = self.find(key)
            verdicts = self.pairs.verdicts.setdefault(key, {})
            before = verdicts.get(reviewer)
            verdict = Verdict(reviewer, given.verdict, given.reasons, given.seconds, self.in_overlap(key))
            if given.verdict == UNDO:
                if before is None:
                    if self.holds(reviewer, key):
                        return verdict  # undone already
                    raise RefusedError(409, "there is nothing to undo: you have given no verdict on this pair")
            elif not self.holds(reviewer, key):
                if before and (before.verdict, before.reasons) == (given.verdict, given.reasons):
                    return before
                raise RefusedError(409, "this pair is not leased to you; somebody else may have it. Ask for the next")
            self._run.manifest.append(REVIEW, [self._row(pair, verdict)], SCHEMA)
            if given.verdict == UNDO:
                del verdicts[reviewer]
                self._lease(key, reviewer, self._clock())
            else:
                verdicts[reviewer] = verdict
                self._drop(key, reviewer)
            return verdict

    def record(self, key: str, given: GivenVerdict, reviewer: str, at: datetime | None = None) -> bool:
        """Take a verdict that was given elsewhere, without a lease; False where it is known already.

        Raises:
            RefusedError: it is malformed, or there is no such pair.
        """
        given.check()
        check_reviewer(reviewer)
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
            verdicts[reviewer] = verdict
            return True

    def release(self, reviewer: str, keys: Sequence[str]) -> None:
        """Give pairs back that a reviewer will not judge now."""
        with self._lock:
            for key in keys:
                self._drop(key, reviewer)

    def _drop(self, key: str, reviewer: str) -> None:
        leases = self._leases.get(key, {})
        leases.pop(reviewer, None)
        if not leases:
            self._leases.pop(key, None)

    def progress(self) -> dict[str, Any]:
        """How far the review is, what each reviewer did, and how far they agree."""
        with self._lock:
            verdicts = {key: dict(self.pairs.verdicts.get(key, {})) for key in self.pairs.by_key}
        reviewers: dict[str, dict[str, Any]] = {}
        for given in verdicts.values():
            for name, verdict in given.items():
                counts = reviewers.setdefault(name, dict.fromkeys((ACCEPT, REJECT, SKIP, FLAG), 0) | {"seconds": 0.0})
                counts[verdict.verdict] += 1
                counts["seconds"] += verdict.seconds or 0.0
        for counts in reviewers.values():
            judged = counts[ACCEPT] + counts[REJECT] + counts[SKIP] + counts[FLAG]
            counts["per_hour"] = judged * 3600 / counts["seconds"] if counts["seconds"] else None
        return {
            "pairs": len(verdicts),
            "reviewed": sum(any(v.verdict in (ACCEPT, REJECT) for v in given.values()) for given in verdicts.values()),
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
        raise RefusedError(422, f"reviewer {name!r}: 1 to 64 letters, digits and . @ + - _, beginning with a letter")
    return name
