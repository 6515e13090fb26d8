"""Files that appear under their names complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ffpdata.storage.store import Store, storage_errors


def write_atomically(path: Path, data: bytes) -> Path:
    """Write a file under a temporary name, fsync it and rename it; returns `path`.

    Raises:
        FatalError: the disk is full or cannot be written.
    """
    return make_atomically(path, lambda temp: temp.write_bytes(data))


def make_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Call `write` with a temporary path of the same suffix, fsync that file and rename it; returns `path`.

    Several processes may do so for one path: each has a temporary file of its own, and the last rename wins.

    Raises:
        FatalError: the disk is full or cannot be written.
    """
    temp = path.with_name(f".{os.getpid()}.{path.name}")
    with storage_errors(str(path.parent)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temp)
    Store(path.parent).commit(temp, path.name)
    return path


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files that killed processes left; call it while nobody writes there."""
    for path in folder.glob(".[0-9]*.*"):
        path.unlink(missing_ok=True)
