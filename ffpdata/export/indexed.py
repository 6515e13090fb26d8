"""Samples of an export one by one, in any order: what a trainer needs that shuffles, resumes and has several processes.

The index beside each shard says where the bytes of every file lie, so a sample is read without what is before it, from
a local folder or an object store. Nothing is unpacked; of a sample nothing is read but the files that are asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffpdata.core.errors import FatalError, FfpdataError, shown
from ffpdata.export.dataset import Dataset
from ffpdata.export.loader import decode_member, shards_of
from ffpdata.export.pair_record import FIRST_FRAME, RECORD, SOURCE, TARGET
from ffpdata.export.shard_index import read_index
from ffpdata.media.codec import read_image, read_video
from ffpdata.storage.store import Store

SAMPLE_COLUMNS = ("key", "track", "task", "split", "instruction", "score", "width", "height", "frames", "fps")
"""What of the index is kept in memory of each sample, beside the places of its files."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a sample: where its bytes lie in the shard, and their SHA-256."""

    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class IndexedSample:
    """One sample, as the index describes it.

    Attributes:
        shard: relative path of the tar.
        members: its files by their names behind the key, e.g. `source.mp4`.
        score: the probability that a person would accept it; None where nothing was scored.
        fps: frames per second.
    """

    shard: str
    key: str
    track: str
    task: str
    split: str
    instruction: str
    score: float | None
    width: int
    height: int
    frames: int
    fps: float
    members: Mapping[str, Member]


class IndexedPairs:
    """The samples of an export; `samples` is a list of them, and the methods read what one holds.

    Reading is safe in several processes: each file is opened where it is needed. An object can be pickled.

    Args:
        out: folder or URL of the export.
        splits: those to list; all by default.

    Attributes:
        shards: relative path of each shard in these splits to the digest of its index, which has the hash of
            every file.
        samples: in the order of the shards.

    Raises:
        FatalError: no complete export is there, it has no such split, or an index is damaged.
    """

    def __init__(self, out: str | Path, splits: Sequence[str] | None = None) -> None:
        self.store = Store(out)
        names: Sequence[str | None] = splits or [None]
        found = [shard for split in names for shard in shards_of(self.store, split)]
        self.shards = {shard.path: shard.index_sha256 for shard in found}
        self.samples: list[IndexedSample] = []
        for shard in found:
            where = f"{self.store.root}/{shard.twin}"
            try:
                of_file, table = read_index(self.store, shard.twin)
            except (FileNotFoundError, ValueError) as err:
                raise FatalError(f"{where} is missing or damaged ({err}): `ffpdata verify` says more") from err
            if of_file.index_sha256 != shard.index_sha256:
                raise FatalError(f"{where} is not the index that the dataset lists: `ffpdata verify` says more")
            self.samples += [_sample(shard.path, row) for row in table.to_pylist()]

    def about(self) -> dict[str, Any]:
        """Return what `dataset.json` says beside the list of shards."""
        return Dataset.load(self.store).about

    def read(self, sample: IndexedSample, name: str) -> bytes:
        """Return the bytes of a file of a sample.

        Raises:
            FatalError: the sample has no such file, or the shard is damaged.
        """
        member = sample.members.get(name)
        if member is None:
            raise FatalError(f"{sample.key} has no {name}: it has {', '.join(sorted(sample.members))}")
        data = self.store.read_range(sample.shard, member.offset, member.bytes)
        if hashlib.sha256(data).hexdigest() != member.sha256:
            raise FatalError(
                f"{self.store.root}/{sample.shard} is damaged: {sample.key}.{name} has other bytes than its index "
                "says: `ffpdata verify` says more"
            )
        return data

    def record(self, sample: IndexedSample) -> dict[str, Any]:
        """Return the record of a sample."""
        try:
            record = json.loads(self.read(sample, RECORD))
        except ValueError as err:
            raise FatalError(f"the {RECORD} of {sample.key} is damaged ({err})") from None
        if not isinstance(record, dict):
            raise FatalError(f"the {RECORD} of {sample.key} is {shown(record)}")
        return record

    def source(self, sample: IndexedSample, frames: int | None = None) -> Any:
        """Decode the source, or its first frames: uint8 (T, H, W, 3) RGB."""
        return self._video(sample, SOURCE, frames)

    def target(self, sample: IndexedSample, frames: int | None = None) -> Any:
        """Decode the target, or its first frames: uint8 (T, H, W, 3) RGB."""
        return self._video(sample, TARGET, frames)

    def edited_first_frame(self, sample: IndexedSample) -> Any:
        """Decode the edited first frame, uint8 (H, W, 3) RGB."""
        return self._decoded(sample, FIRST_FRAME, read_image)

    def _video(self, sample: IndexedSample, name: str, frames: int | None) -> Any:
        return self._decoded(sample, name, lambda path: read_video(path, frames))

    def _decoded(self, sample: IndexedSample, name: str, read: Any) -> Any:
        try:
            return decode_member(self.read(sample, name), read)
        except FatalError:
            raise
        except FfpdataError as err:
            raise FatalError(f"{sample.key}.{name} cannot be decoded: {err}") from err

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[IndexedSample]:
        return iter(self.samples)


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Say how the shards of a dataset differ from those that were recorded.

    Args:
        before: path to digest, of `IndexedPairs.shards`.
        after: likewise.

    Returns:
        A line for each kind of change; empty where there is none.
    """
    kinds = {
        "gone": sorted(before.keys() - after.keys()),
        "new": sorted(after.keys() - before.keys()),
        "changed": sorted(path for path in before.keys() & after.keys() if before[path] != after[path]),
    }
    lines = []
    for kind, paths in kinds.items():
        told = [f"{path} ({_digests(before.get(path), after.get(path))})" for path in paths[:NAMED]]
        if paths:
            more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
            lines.append(f"{kind}: {', '.join(told)}{more}")
    return lines


NAMED = 3
"""Shards that a message names of each kind."""


def _digests(before: str | None, after: str | None) -> str:
    return " now ".join(digest[:12] for digest in (before, after) if digest)


def _sample(shard: str, row: Mapping[str, Any]) -> IndexedSample:
    own = {name: row[name] for name in SAMPLE_COLUMNS}
    members = {
        m["name"].removeprefix(f"{row['key']}."): Member(m["offset"], m["bytes"], m["sha256"]) for m in row["members"]
    }
    return IndexedSample(shard=shard, **own, members=members)
