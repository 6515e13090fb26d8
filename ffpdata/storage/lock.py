"""The lock of a run folder: one writer at a time, and no unlocking by hand.

A local lock ends with its process. On S3 the lock is a lease (`storage/lease.py`), which expires when nobody renews it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from ffpdata.core.errors import FatalError, RunLockedError, disk_unusable
from ffpdata.storage.lease import Lease
from ffpdata.storage.object_store import is_s3
from ffpdata.storage.store import Store, storage_errors

LOCK = "run.lock"
HOLDER_BYTES = 4096
"""Most bytes that are read of a lock file: more than a holder writes, and a limit for damaged ones."""


class Lock:
    """A held lock of a run folder."""

    def check(self) -> None:
        """Raise FatalError where the lock was lost. A local lock is never lost while its process lives."""


class _LeaseLock(Lock):
    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def check(self) -> None:
        self._lease.check()


@contextmanager
def run_lock(store: Store, name: str = LOCK) -> Iterator[Lock]:
    """Hold the lock of a run folder: a locked file, on S3 a lease. Other object stores are not locked.

    Args:
        store: the run folder.
        name: of the lock. Other kinds of work that allow one process at a time have locks of other names.

    Raises:
        RunLockedError: another process holds it; the message has its id, its host and the time.
        FatalError: the lock cannot be made, opened or locked.
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
    except OSError as err:
        raise FatalError(f"{store.root}: cannot be made or opened ({err.strerror}): name another folder") from err
    with ExitStack() as stack:
        with _usable(path):
            handle = stack.enter_context(_regular(path).open("a+b"))
            if not _acquire(handle):
                handle.seek(0)
                raise RunLockedError(
                    f"{store.root} is being written by another run ({_describe(handle.read(HOLDER_BYTES), path)}). "
                    "Wait for it to end, stop it, or name another --run folder."
                )
            holder = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": datetime.now(UTC).isoformat("T", "seconds"),
            }
            handle.truncate(0)
            handle.write(json.dumps(holder).encode())
            handle.flush()
        yield Lock()


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Turn the system's errors for an unusable lock file into one FatalError."""
    try:
        yield
    except PermissionError as err:
        if not os.path.lexists(path):  # the folder takes no files
            with storage_errors(str(path.parent)):
                raise
        raise FatalError(
            f"{path}: this lock file cannot be opened ({err.strerror}). Make it readable and writable for this user, "
            "remove it if no run is writing here, or name another --run folder."
        ) from err
    except OSError as err:
        with storage_errors(str(path.parent)):
            if disk_unusable(err):
                raise
        raise FatalError(
            f"{path}: this lock file cannot be used ({err.strerror or err}). Remove it if no run is writing here, or "
            "name a --run folder on another disk."
        ) from err


def _regular(path: Path) -> Path:
    """Return the path of a lock file; raises where it is something else, as a pipe, which `open` would wait for."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "something else"
        raise FatalError(
            f"{path}: expected a lock file, found {found}. Move it away, or name another --run folder: nothing is "
            "written without the lock."
        )
    return path


def _acquire(handle: IO[bytes]) -> bool:
    """Acquire the lock, with a few tries, because `is_locked` holds it for a moment; False where it is taken."""
    for _ in range(5):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def is_locked(store: Store) -> bool:
    """Return whether a process is writing the run folder now.

    Raises:
        FatalError: the lock cannot be opened.
    """
    if not store.local:
        found = Lease(store.url(LOCK)).read() if is_s3(store.root) else None
        return found is not None and found.left > 0
    path = store.local_path(LOCK)
    with _usable(path):
        try:
            handle = _regular(path).open("rb")
        except FileNotFoundError:
            return False
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def _describe(text: bytes, path: Path) -> str:
    """Describe the process that holds a lock by what it wrote into the file, which may be damaged."""
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"{path} does not tell which: it is damaged, `fuser {path}` may"
