"""One writer per run folder: the lock dies with its process, so a killed run never has to be unlocked by hand."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO

from ffpdata.core.errors import FatalError, RunLockedError
from ffpdata.core.store import Store, storage_errors

LOCK = "run.lock"


@contextmanager
def run_lock(store: Store) -> Iterator[None]:
    """Hold the run folder for writing.

    Raises:
        RunLockedError: another process holds it; the message names the process, its host and since when.
    """
    if not store.local:  # an object store has no process-bound lock
        yield
        return
    path = store.local_path(LOCK)
    try:
        with storage_errors(store.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = path.open("a+")
    except OSError as err:
        raise FatalError(f"{store.root}: cannot be made or opened ({err.strerror}): name another folder") from err
    with handle:
        if not _acquire(handle):
            handle.seek(0)
            raise RunLockedError(
                f"{store.root} is being written by another run ({_describe(handle.read())}). "
                "Wait for it to end, stop it, or name another --run folder."
            )
        handle.truncate(0)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat("T", "seconds"),
        }
        handle.write(json.dumps(holder))
        handle.flush()
        yield


def _acquire(handle: IO[str]) -> bool:
    """Take the lock; a few tries, because `is_locked` holds it for an instant."""
    for _ in range(5):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def is_locked(store: Store) -> bool:
    """Say whether a process is writing the run folder now."""
    path = store.local_path(LOCK) if store.local else None
    if path is None or not path.exists():
        return False
    with path.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _describe(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "its process could not be read"
