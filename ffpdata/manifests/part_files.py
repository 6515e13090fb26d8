"""The parts of a manifest as files: what their names tell, and whether they are all there and as they were written.

A name is `part-<number>-<columns>-<crc>-<before>.parquet`. The number always increases, so names sort by age; `columns`
is a tag of the columns. `crc` is the CRC-32 of the file: a flipped bit reads back as other rows with DuckDB, which
checks nothing, and in places with Parquet's page checksums too, so a part is read once before it is used. `before` is
the number of the part before it: a part that somebody deleted is noticed by the one that follows. Parts of earlier
releases lack the last two, and are not checked.
"""

from __future__ import annotations

import io
import re
import threading
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ffpdata.core.errors import DamagedError
from ffpdata.storage.store import Store

THREADS = 16
"""Parts that are read or deleted at the same time."""

_NAME = re.compile(r"part-(\d+)-([^-]+)-([^-]+)(?:-([0-9a-f]{16}))?\.parquet")
_CHUNK = 1 << 20

_AFTERWARDS = {
    "inputs": "the inputs that it names are looked through once more, and nothing is computed",
    "curate": "curation decides anew at every start",
}
_ROWS = "its rows are read back from the records beside the artifacts, and where there is none, made anew"
_VERDICTS = "review"


@dataclass(frozen=True)
class PartName:
    """What the name of a part tells.

    Attributes:
        number: the newer, the larger; 0 for parts of other programs.
        columns: the same tag means the same columns; empty for parts of other programs.
        crc: CRC-32 of the file, 8 hex digits; empty where it is not known.
        before: number of the part before it; 0 for the first one, and where it is not known.
    """

    number: int
    columns: str = ""
    crc: str = ""
    before: int = 0

    @classmethod
    def of(cls, part: str) -> PartName:
        """Read a part's name or path."""
        found = _NAME.fullmatch(part.rsplit("/", 1)[-1])
        if found is None:
            return cls(0)
        number, columns, crc, before = found.groups()
        return cls(int(number), columns, crc if before else "", int(before or "0", 16))

    def __str__(self) -> str:
        return f"part-{self.number:020d}-{self.columns}-{self.crc}-{self.before:016x}.parquet"


def crc_of(path: Path) -> str:
    """Return the CRC-32 of a file as names have it."""
    crc = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return f"{crc:08x}"


def after_gaps(parts: Iterable[str]) -> list[int]:
    """Numbers of the parts of one stage of which the part before them is missing."""
    names = [PartName.of(part) for part in parts]
    there = {name.number for name in names}
    return sorted(name.number for name in names if name.before and name.before not in there)


def damaged(store: Store, part: str, why: str) -> DamagedError:
    """The error about a part, which says what to do."""
    stage = part.split("/")[1]
    if stage == _VERDICTS:
        what = "The verdicts in it are nowhere else: put it back from a copy; deleting it loses them, and nothing else"
    else:
        what = (
            "Put it back from a copy, or delete this one file and start the run again, which is safe: "
            f"{_AFTERWARDS.get(stage, _ROWS)}"
        )
    return DamagedError(f"the manifests of {store.root} cannot be read: {part} is damaged: {why}. {what}.")


def read_part(store: Store, part: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a part's rows; only those of `columns` that it has.

    Raises:
        DamagedError: it is not as it was written.
    """
    data = store.read(part)
    name = PartName.of(part)
    if name.crc and f"{zlib.crc32(data):08x}" != name.crc:
        raise damaged(store, part, _CHANGED)
    try:
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        wanted = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        return file.read(wanted)
    except (pa.ArrowException, OSError) as err:
        raise damaged(store, part, str(err)) from err


_CHANGED = "its bytes are not the ones that were written"

_checked: dict[tuple[str, str], tuple[int, int]] = {}
"""Parts that this process found sound, with size and time."""
_lock = threading.Lock()


def check_parts(store: Store, parts: Sequence[str]) -> None:
    """Make sure that parts are as they were written, before a reader that does not look. Each is read once per process.

    A part that is gone is left to the reader.

    Raises:
        DamagedError: one is not.
    """
    new = [part for part in parts if PartName.of(part).crc and (not store.local or _is_new(store, part))]
    new = new if store.local else [part for part in new if (store.root, part) not in _checked]
    if not new:
        return
    with ThreadPoolExecutor(min(THREADS, len(new))) as pool:
        for part, sound in zip(new, pool.map(lambda part: _sound(store, part), new), strict=True):
            if not sound:
                raise damaged(store, part, _CHANGED)


def _is_new(store: Store, part: str) -> bool:
    return _checked.get((store.root, part)) != _stamp(store.local_path(part))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _sound(store: Store, part: str) -> bool:
    with store.hold() as held:
        try:
            path = store.fetch(part, held)
            stamp = _stamp(path)
            sound = crc_of(path) == PartName.of(part).crc
        except FileNotFoundError:
            return True
    if sound:
        with _lock:
            _checked[store.root, part] = stamp
    return sound
