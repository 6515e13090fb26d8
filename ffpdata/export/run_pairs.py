"""The accepted pairs of a run folder, as an export would have them, read from where the run keeps its files."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping

from ffpdata.core.errors import FatalError, nearest
from ffpdata.export.extras import Extras
from ffpdata.export.loader import Pair
from ffpdata.export.pair_record import FIRST_FRAME, RECORD, TARGET, Records, to_json
from ffpdata.export.shard_plan import PlannedPair, choose, damaged_artifact, plan_shards, rows
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.codec import png, read_first_frame
from ffpdata.storage.digests import CHANGED
from ffpdata.storage.store import Store

BATCH = 256
"""Rows of `items` that are held at a time."""


class PairFiles(Mapping[str, bytes]):
    """The members of a sample by name, each read from the run folder when it is asked for.

    Args:
        artifacts: the run folder.
        planned: which file is which member.
        record: bytes of the pair's record.
    """

    def __init__(self, artifacts: Store, planned: PlannedPair, record: bytes) -> None:
        self._artifacts, self._planned, self._record = artifacts, planned, record

    def __getitem__(self, member: str) -> bytes:
        if member == RECORD:
            return self._record
        if member == FIRST_FRAME:
            with self._artifacts.hold() as held:
                return png(read_first_frame(self._artifacts.fetch(self._planned.files[TARGET][0], held)))
        path, _ = self._planned.files[member]
        data, known = self._artifacts.read(path), self._planned.sha256.get(member)
        if known and hashlib.sha256(data).hexdigest() != known:
            raise damaged_artifact(self._artifacts, path, CHANGED)
        return data

    def __contains__(self, member: object) -> bool:
        return member in (RECORD, FIRST_FRAME) or member in self._planned.files

    def __iter__(self) -> Iterator[str]:
        return iter(sorted((*self._planned.files, FIRST_FRAME, RECORD)))

    def __len__(self) -> int:
        return len(self._planned.files) + 2


def run_pairs(run: RunFolder, split: str | None = None) -> Iterator[Pair]:
    """Read the accepted pairs of a run in the order in which an export has them; nothing is copied.

    Args:
        run: curated; what was accepted is as of the end of its last start or export.
        split: one split; all of them by default.

    Raises:
        FatalError: the run has no such split.
        DamagedError: a file of a pair is gone or damaged; a changed one is noticed when it is read.
    """
    with run.reading() as connection:
        tracks, extras = run.tracks(), Extras.of(run.pipelines())
        if not tracks or not choose(connection, tracks, extras):
            return
        plans = plan_shards(connection, run.store, sys.maxsize, extras, tracks)  # one for each split
        splits = {plan.split for plan in plans}
        if split is not None and split not in splits:
            raise FatalError(f"{run.store.root} has no split {split!r}{nearest(split, splits)}")
        records = Records(run, connection, extras)
        for plan in plans:
            if split not in (None, plan.split):
                continue
            for first in range(0, len(plan.entries), BATCH):
                entries = plan.entries[first : first + BATCH]
                table = rows(connection, entries[0].place, entries[-1].place)
                for row, planned in zip(table, entries, strict=True):
                    yield Pair(PairFiles(run.store, planned, to_json(records.record(row, planned.key, planned.base))))
