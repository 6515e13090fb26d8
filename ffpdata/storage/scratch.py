"""The scratch folder for files of remote stores: one per process, limited in size, removed when its process has ended.

Downloads are kept until space is needed; the least recently used ones are removed first, and those in use are kept. A
killed process cannot clean up: the next process on the machine does, and recognises dead ones by their locks.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import shutil
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ffpdata.core.errors import ConfigError, FatalError, disk_full
from ffpdata.core.keys import digest

FOLDER_VARIABLE, LIMIT_VARIABLE = "FFPDATA_SCRATCH", "FFPDATA_SCRATCH_GB"
LIMIT_GB = 20.0
"""Default limit of the downloads that one process keeps, 10^9 bytes."""
NAME_LENGTH = 100
"""Most characters of a file name that are kept: the key of an object may be longer than a file name."""


_OURS = re.compile(r"\d+-[0-9a-f]{8}")
"""Name of a process's folder: its id and a random number."""


@dataclass
class _Download:
    path: Path
    size: int
    users: int = 0


@dataclass
class DownloadsInUse:
    """Downloads that are kept until the end of a `hold` block."""

    copies: list[_Download] = field(default_factory=list)


class Scratch:
    """A folder of this process for unfinished files and for downloads. Threads may share it.

    Args:
        base: parent of the folder; `FFPDATA_SCRATCH` or the system's temporary folder by default.
        limit: bytes of downloads that are kept; `FFPDATA_SCRATCH_GB` or 20 GB by default. It is exceeded where the
            downloads in use are larger.
    """

    def __init__(self, base: Path | None = None, limit: float | None = None) -> None:
        self._base = base or Path(os.environ.get(FOLDER_VARIABLE) or tempfile.gettempdir())
        self._limit = limit if limit is not None else _limit()
        self._copies: OrderedDict[str, _Download] = OrderedDict()
        self._size = 0
        self._lock = threading.RLock()
        self._folder: Path | None = None
        self._handle = -1

    @property
    def folder(self) -> Path:
        """The folder, created at first use.

        Raises:
            FatalError: it cannot be created.
        """
        with self._lock:
            if self._folder is not None and not self._folder.is_dir():  # another program cleans the temporary folder
                self.close()
            try:
                return self._folder or self._open()
            except OSError as err:
                raise self._broken(err) from err

    @property
    def size(self) -> int:
        """Bytes of the downloads in the folder."""
        return self._size

    def temp_file(self, name: str) -> Path:
        """Return a new path for an unfinished file; it ends in `name`."""
        return self.folder / f"{uuid.uuid4().hex[:12]}-{name[-NAME_LENGTH:]}"

    def fetch(self, name: str, download: Callable[[Path], None], in_use: DownloadsInUse | None = None) -> Path:
        """Return the path of the local copy of a remote file.

        Args:
            name: key of the copy; its last part is the file's name.
            download: writes the file to a path; called where there is no copy.
            in_use: from `hold`; keeps the copy until the end of that block.

        Raises:
            FatalError: the folder is full, missing or not writable. Other errors of `download` are passed on.
        """
        found = self._use(name, in_use)
        if found is not None:
            return found
        folder = self.folder / f"copy-{digest(name)[:20]}-{uuid.uuid4().hex[:8]}"
        path = folder / name.rsplit("/", 1)[-1][-NAME_LENGTH:]
        try:
            folder.mkdir()
            download(path)
            size = path.stat().st_size
        except BaseException as err:
            own = isinstance(err, Exception) and (disk_full(err) or not os.access(folder, os.W_OK))
            shutil.rmtree(folder, ignore_errors=True)
            if own:
                raise self._broken(err) from err
            raise
        with self._lock:
            found = self._use(name, in_use)
            if found is None:
                self._copies[name] = _Download(path, size)
                self._size += size
                self._use(name, in_use)
                self._trim()
                return path
        shutil.rmtree(folder, ignore_errors=True)  # another thread was faster
        return found

    @contextmanager
    def hold(self) -> Iterator[DownloadsInUse]:
        """Keep every copy that is fetched with the yielded object; at the end, copies over the limit are removed."""
        in_use = DownloadsInUse()
        try:
            yield in_use
        finally:
            with self._lock:
                for copy in in_use.copies:
                    copy.users -= 1
                self._trim()

    def close(self) -> None:
        """Remove the folder with all files."""
        with self._lock:
            if self._folder is None:
                return
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):
                _lock_file(self._folder).unlink()
            os.close(self._handle)
            self._folder, self._handle = None, -1
            self._copies.clear()
            self._size = 0

    def _use(self, name: str, in_use: DownloadsInUse | None) -> Path | None:
        with self._lock:
            copy = self._copies.get(name)
            if copy is None:
                return None
            if not copy.path.exists():  # another program cleans the temporary folder
                self._drop(name)
                return None
            self._copies.move_to_end(name)
            if in_use is not None:
                in_use.copies.append(copy)
                copy.users += 1
            return copy.path

    def _trim(self) -> None:
        """Remove the least recently used copies that are not in use, down to the limit; the newest one is kept."""
        if self._size <= self._limit:
            return
        for name in list(self._copies)[:-1]:
            if not self._copies[name].users:
                self._drop(name)
            if self._size <= self._limit:
                return

    def _drop(self, name: str) -> None:
        copy = self._copies.pop(name)
        self._size -= copy.size
        shutil.rmtree(copy.path.parent, ignore_errors=True)

    def _broken(self, err: BaseException) -> FatalError:
        return FatalError(
            f"{self._folder or self._base}: files of remote stores cannot be kept there ({err}). Make room, make it "
            f"writable, or set {FOLDER_VARIABLE} to another folder; finished items are kept."
        )

    def _open(self) -> Path:
        root = self._base / f"ffpdata-{os.getuid()}"
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if root.is_symlink() or root.stat().st_uid != os.getuid():
            whose = "is a link" if root.is_symlink() else "belongs to another user"
            raise ConfigError(f"{root} {whose}: set {FOLDER_VARIABLE} to a folder of your own")
        clean_dead(root)
        while True:
            folder = root / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
            handle = os.open(_lock_file(folder), os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _lock_file(folder).exists():  # otherwise another process has just removed it as dead
                folder.mkdir(mode=0o700)
                self._folder, self._handle = folder, handle
                return folder
            os.close(handle)


def clean_dead(root: Path) -> list[str]:
    """Remove the folders below `root` whose process has ended, and return their names."""
    removed = []
    for lock in sorted(root.glob("*.lock")):
        if not _OURS.fullmatch(lock.stem):
            continue
        with suppress(OSError), lock.open("r+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the process lives
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
            removed.append(lock.stem)
    return removed


_process: dict[int, Scratch] = {}
_process_lock = threading.Lock()


def process_scratch() -> Scratch:
    """Return the scratch of this process."""
    with _process_lock:
        if os.getpid() not in _process:  # a forked child has a folder of its own
            _process.clear()
            _process[os.getpid()] = Scratch()
            atexit.register(_close, os.getpid())
        return _process[os.getpid()]


def _close(pid: int) -> None:
    if pid == os.getpid() and pid in _process:
        _process[pid].close()


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _limit() -> float:
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    try:
        limit = float(text or LIMIT_GB)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise ConfigError(f"{LIMIT_VARIABLE}={text!r}: give the number of gigabytes of downloads to keep")
    return limit * 1e9
