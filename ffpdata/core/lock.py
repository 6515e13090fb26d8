"""One writer per run folder, which never has to be unlocked by hand.

A local lock dies with its process. On S3 the lock is a lease (`core/lease.py`), which ends when nobody renews it.
"""

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
from ffpdata.core.lease import Lease
from ffpdata.core.remote import is_s3
from ffpdata.core.store import Store, storage_errors

LOCK = "run.lock"


class Lock:
    """The right to write a run folder."""

    def check(self) -> None:
        """Raise FatalError where the right was lost. A local lock is lost with its process alone."""


class _LeaseLock(Lock):
    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def check(self) -> None:
        self._lease.check()


@contextmanager
def run_lock(store: Store, name: str = LOCK) -> Iterator[Lock]:
    """Hold the run folder for writing: by a lock on a file, on S3 by a lease. Other object stores have neither.

    Args:
        store: the run folder.
        name: of the lock. Other names are for other work in the folder, of which there shall be one at a time.

    Raises:
        RunLockedError: another process holds it; the message names the process, its host and since when.
    """
    if not store.local:
        if not is_s3(store.root):
            yield Lock()
            return
        lease = Lease(store.url(name))
        lease.acquire()
        try:
            yield _LeaseLock(lease)
        finally:
            lease.release()
        return
    path = store.local_path(name)
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
        yield Lock()


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
    if not store.local:
        found = Lease(store.url(LOCK)).read() if is_s3(store.root) else None
        return found is not None and found.left > 0
    path = store.local_path(LOCK)
    if not path.exists():
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
