"""A tar that is byte-identical for the same samples: plain headers, no time, no owner, no host.

`tarfile` writes it. Beside that, the index needs where every file lies and its hash, which `webdataset.TarWriter`, that
takes each file whole into memory, does not tell; and reading back must notice every byte that differs, also those that
`tarfile` does not look at.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedWriter, BytesIO
from pathlib import Path
from typing import IO, Any

MEMBER_MODE = 0o644

BLOCK, RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
"""A tar is made of blocks and ends with zeros up to a full record."""

_CHUNK = 1 << 18
"""Bytes that are hashed and written at a time: few enough to stay in a core's cache."""

_PIECE = 1 << 26
"""Bytes that are read at a time."""

_FLUSH = 1 << 27
"""Bytes after which the disk is asked to write."""


@dataclass(frozen=True)
class Member:
    """One file of a sample: the end of its name (`source.mp4`), and its bytes or the file that holds them."""

    name: str
    content: bytes | Path


@dataclass(frozen=True)
class WrittenTar:
    """A tar that was written.

    Attributes:
        bytes: its size.
        samples: per sample its members: `name`, `offset` of the first byte in the tar, `bytes`, `sha256`.
    """

    bytes: int
    samples: list[list[dict[str, Any]]]


class DamagedTarError(ValueError):
    """A tar that `write_tar` would not have written so."""


def write_tar(path: Path, samples: Iterable[tuple[str, Sequence[Member]]]) -> WrittenTar:
    """Write samples into a tar.

    Args:
        path: file to write; the caller gives it its final name.
        samples: key and members of each, in the order in which they are to stand; a file in the tar is named
            `<key>.<member name>`.
    """
    written = []
    with path.open("wb") as out, _flushing(out) as flush:
        with tarfile.TarFile(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT, copybufsize=_CHUNK) as tar:
            for key, members in samples:
                flush()
                written.append([_add(tar, out.tell(), key, member) for member in members])
        return WrittenTar(out.tell(), written)


def _add(tar: tarfile.TarFile, place: int, key: str, member: Member) -> dict[str, Any]:
    with _opened(member.content) as (stream, size):
        hashed = _Hashed(stream)
        tar.addfile(_info(f"{key}.{member.name}", size), hashed)
        if stream.read(1):
            raise OSError(f"{member.name} of {key} grew while it was read")
    return {"name": member.name, "offset": place + BLOCK, "bytes": size, "sha256": hashed.sha.hexdigest()}


class _Hashed:
    """A stream whose bytes are hashed as they are read, while they are in the cache."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.sha = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self.sha.update(data)
        return data


def read_tar(stream: IO[bytes]) -> Iterator[tuple[str, int, bytes]]:
    """Read a tar that `write_tar` wrote: name, offset and bytes of every file.

    Raises:
        DamagedTarError: a byte outside the files is not what it should be, or the end is missing.
    """
    while True:
        block = _read(stream, BLOCK)
        if block == bytes(BLOCK):
            break
        try:
            info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
            same = block == header(info.name, info.size)
        except (tarfile.HeaderError, ValueError) as err:
            raise DamagedTarError(f"no file begins at byte {stream.tell() - BLOCK}: {err}") from err
        if not same:  # a link, a device and another owner have another one, too
            raise DamagedTarError(f"the header of {info.name} is not the one that was written")
        offset = stream.tell()
        yield info.name, offset, _read(stream, info.size)
        if any(_read(stream, -info.size % BLOCK)):
            raise DamagedTarError(f"what follows {info.name} is not empty")
    rest = stream.read(RECORD + 1)
    if any(rest) or stream.tell() % RECORD or len(rest) < BLOCK:
        raise DamagedTarError("its end is not the one that was written")


def read_samples(stream: IO[bytes]) -> dict[str, list[dict[str, Any]]]:
    """Read a tar that `write_tar` wrote: per key what `WrittenTar.samples` tells of its members.

    Raises:
        DamagedTarError: as `read_tar`.
    """
    samples: dict[str, list[dict[str, Any]]] = {}
    for name, offset, data in read_tar(stream):
        key, _, member = name.partition(".")
        told = {"name": member, "offset": offset, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        samples.setdefault(key, []).append(told)
    return samples


def header(name: str, size: int) -> bytes:
    """Return the header block of a file."""
    return _info(name, size).tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, MEMBER_MODE
    return info


@contextmanager
def _flushing(out: BufferedWriter) -> Iterator[Callable[[], None]]:
    """Let the disk write what there is while the next bytes are hashed: the final fsync then has little left to do."""
    with ThreadPoolExecutor(1) as pool:
        under_way: Future[None] | None = None
        flushed = 0

        def flush() -> None:
            nonlocal under_way, flushed
            if out.tell() - flushed >= _FLUSH and (under_way is None or under_way.done()):
                if under_way is not None:
                    under_way.result()
                under_way, flushed = pool.submit(os.fsync, out.fileno()), out.tell()

        yield flush
        if under_way is not None:
            under_way.result()


@contextmanager
def _opened(content: bytes | Path) -> Iterator[tuple[IO[bytes], int]]:
    """A stream over a member's bytes, and their number."""
    if isinstance(content, Path):
        with content.open("rb") as stream:
            yield stream, os.fstat(stream.fileno()).st_size
    else:
        yield BytesIO(content), len(content)


def _read(stream: IO[bytes], size: int) -> bytes:
    """Read so many bytes; a piece at a time, because a damaged header may tell of more than fit into memory."""
    pieces, left = [], size
    while left and (piece := stream.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    if left:
        raise DamagedTarError(f"it ends {left} bytes too early")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
