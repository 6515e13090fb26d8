"""A tar that is byte-identical for the same samples, hashed while it is written.

The standard library writes it and not webdataset's TarWriter, which opens its tar in another format than the one it is
asked for and copies everything through blocks of 10 KB.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MEMBER_MODE = 0o644

_WHOLE = 1 << 30
"""Copy members into the tar in one piece."""

_QUEUE = 32
"""Writes that may wait for their hash."""


@dataclass(frozen=True)
class Member:
    """One file of a sample: the end of its name (`source.mp4`), its bytes and their hash."""

    name: str
    data: bytes
    sha256: str

    @classmethod
    def of(cls, name: str, data: bytes) -> Member:
        """Hash the bytes."""
        return cls(name, data, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Written:
    """A tar that was written.

    Attributes:
        bytes: its size.
        sha256: its hash.
        samples: per sample its members: `name`, `offset` of the first byte in the tar, `bytes`, `sha256`.
    """

    bytes: int
    sha256: str
    samples: list[list[dict[str, Any]]]


def write_tar(path: Path, samples: Iterable[tuple[str, Sequence[Member]]]) -> Written:
    """Write samples into a tar: plain headers, members in the given order, no time, owner or host.

    Args:
        path: file to write; the caller gives it its final name.
        samples: key and members of each; a file in the tar is named `<key>.<member name>`.
    """
    written: list[list[dict[str, Any]]] = []
    with path.open("wb", buffering=0) as raw, ThreadPoolExecutor(1) as pool:
        stream = _Hashing(raw, pool)
        with tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT, copybufsize=_WHOLE) as tar:  # type: ignore[arg-type]
            for key, members in samples:
                placed = []
                for member in members:
                    info = tarfile.TarInfo(f"{key}.{member.name}")
                    info.size, info.mode = len(member.data), MEMBER_MODE
                    offset = tar.offset + tarfile.BLOCKSIZE
                    tar.addfile(info, io.BytesIO(member.data))
                    placed.append({"name": member.name, "offset": offset, "bytes": info.size, "sha256": member.sha256})
                written.append(placed)
        return Written(raw.tell(), stream.hexdigest(), written)


class _Hashing:
    """A stream that hashes in a thread what passes: hashing is about as slow as writing."""

    def __init__(self, raw: IO[bytes], pool: ThreadPoolExecutor) -> None:
        self._raw, self._pool = raw, pool
        self._sha = hashlib.sha256()
        self._waiting: deque[Future[None]] = deque()

    def tell(self) -> int:
        return self._raw.tell()

    def write(self, data: bytes) -> int:
        self._waiting.append(self._pool.submit(self._sha.update, data))
        if len(self._waiting) > _QUEUE:
            self._waiting.popleft().result()
        rest = memoryview(data)
        while rest:
            rest = rest[self._raw.write(rest) :]
        return len(data)

    def hexdigest(self) -> str:
        while self._waiting:
            self._waiting.popleft().result()
        return self._sha.hexdigest()
