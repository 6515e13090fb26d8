"""Files of a training appear under their names whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ffpdata.storage.store import Store, storage_errors


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file under a temporary name, fsync it and rename it.

    Raises:
        FatalError: the disk is full or cannot be written.
    """
    return make_whole(path, lambda temp: temp.write_bytes(data))


def make_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Have `write` write a temporary file of the same ending, fsync it and rename it; returns `path`.

    Several processes may do so for one path: each has a temporary file of its own, and one of them stays.

    Raises:
        FatalError: the disk is full or cannot be written.
    """
    temp = path.with_name(f".{os.getpid()}.{path.name}")
    with storage_errors(str(path.parent)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temp)
    Store(path.parent).commit(temp, path.name)
    return path


def clean(folder: Path) -> None:
    """Remove temporary files that killed processes left; call it where nobody writes there."""
    for path in folder.glob(".[0-9]*.*"):
        path.unlink(missing_ok=True)
