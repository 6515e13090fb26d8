"""One storage object everywhere: a run folder, local or s3://, with relative paths inside it.

A file appears under its final name whole or not at all: locally it is written under a temporary name in the same
folder tree, fsynced and renamed; on an object store it is one PUT.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import fsspec

from ffpdata.core.errors import FatalError, RetryableError

TEMP = ".tmp"
"""Folder under the root that holds files which have no final name yet; emptied at the start of a run."""

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Turn a full or read-only disk into one clear FatalError, and nothing else."""
    try:
        yield
    except OSError as err:
        if err.errno in _NO_SPACE:
            raise FatalError(
                f"{where}: no space left on the device. Free some space and start the same command again: "
                "finished items are kept."
            ) from err
        if err.errno in _NOT_WRITABLE:
            raise FatalError(
                f"{where}: cannot be written ({err.strerror}). Make the folder writable for this user, or name another."
            ) from err
        raise


class Store:
    """Files under one root.

    Args:
        root: a local folder or any fsspec URL, e.g. `s3://bucket/run`. Credentials and endpoints come from the
            environment (`AWS_*`, `FSSPEC_S3_ENDPOINT_URL`), never from the URL.
        scratch: local folder for downloads and unfinished files of a remote root; a temporary one by default.
    """

    def __init__(self, root: str | Path, scratch: Path | None = None) -> None:
        text = str(root)
        self.local = "://" not in text or text.startswith("file://")
        if self.local:
            text = str(Path(text.removeprefix("file://")).absolute())
        self.root = text.rstrip("/")
        self._scratch = scratch
        self._fs: Any = None

    def __repr__(self) -> str:
        return f"Store({self.root!r})"

    def __reduce__(self) -> tuple[type[Store], tuple[str, Path | None]]:
        return Store, (self.root, self._scratch)

    @property
    def fs(self) -> Any:
        """The fsspec file system, opened at first use."""
        if self._fs is None:
            self._fs = fsspec.filesystem("file") if self.local else fsspec.core.url_to_fs(self.root)[0]
        return self._fs

    @property
    def scratch(self) -> Path:
        """A local folder for files in the making: inside the root where that is local, so that a rename is atomic."""
        if self.local:
            return self.local_path(TEMP)
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="ffpdata-"))
        return self._scratch

    def url(self, path: str) -> str:
        """Full location of a relative path. A path that leaves the root raises ValueError."""
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{path!r} is not a path inside {self.root}")
        return f"{self.root}/{parts}" if path else self.root

    def local_path(self, path: str) -> Path:
        """Local path of a relative path; only for a local root."""
        if not self.local:
            raise ValueError(f"{self.root} is not a local folder")
        return Path(self.url(path))

    def exists(self, path: str) -> bool:
        """Say whether a file or folder is there."""
        return bool(self.local_path(path).exists() if self.local else self.fs.exists(self.url(path)))

    def list(self, folder: str, suffix: str = "") -> list[str]:
        """Sorted relative paths of the files directly in `folder`; a missing folder is empty."""
        if self.local:
            try:
                with os.scandir(self.local_path(folder)) as entries:
                    names = [e.name for e in entries if e.name.endswith(suffix) and e.is_file()]
            except FileNotFoundError:
                return []
        else:
            try:
                found = self.fs.ls(self.url(folder), detail=True, refresh=True)
            except FileNotFoundError:
                return []
            names = [e["name"].rsplit("/", 1)[1] for e in found if e["type"] == "file"]
        return sorted(f"{folder}/{name}" for name in names if name.endswith(suffix))

    def read(self, path: str) -> bytes:
        """Return a file's bytes; FileNotFoundError where it is not there."""
        return self.local_path(path).read_bytes() if self.local else bytes(self.fs.cat_file(self.url(path)))

    def size(self, path: str) -> int:
        """Return a file's size in bytes; FileNotFoundError where it is not there."""
        return self.local_path(path).stat().st_size if self.local else int(self.fs.size(self.url(path)))

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading."""
        stream: IO[bytes] = self.local_path(path).open("rb") if self.local else self.fs.open(self.url(path), "rb")
        return stream

    def write(self, path: str, data: bytes) -> None:
        """Write a whole file atomically, replacing one that is there."""
        if not self.local:
            self.fs.pipe_file(self.url(path), data)
            return
        with storage_errors(self.root):
            temp = self.temp_file(PurePosixPath(path).name)
            try:
                temp.write_bytes(data)
                self.commit(temp, path)
            finally:
                temp.unlink(missing_ok=True)

    def temp_file(self, name: str) -> Path:
        """Return a fresh local path for a file in the making, ending in `name`."""
        with storage_errors(self.root):
            self.scratch.mkdir(parents=True, exist_ok=True)
        return self.scratch / f"{uuid.uuid4().hex[:12]}-{name}"

    def commit(self, temp: Path, path: str) -> None:
        """Give a finished local file its final name: fsync and rename, or one PUT. `temp` is gone afterwards."""
        if not self.local:
            try:
                self.fs.put_file(str(temp), self.url(path))
            except (TimeoutError, ConnectionError) as err:
                raise RetryableError(f"{self.url(path)}: upload failed: {err}") from err
            temp.unlink()
            return
        final = self.local_path(path)
        with storage_errors(self.root):
            final.parent.mkdir(parents=True, exist_ok=True)
            with temp.open("rb") as stream:
                os.fsync(stream.fileno())
            try:
                temp.replace(final)
            except OSError as err:
                if err.errno != errno.EXDEV:
                    raise
                near = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}")
                shutil.copyfile(temp, near)
                with near.open("rb") as stream:
                    os.fsync(stream.fileno())
                near.replace(final)
                temp.unlink()
            _fsync_folder(final.parent)

    def fetch(self, path: str) -> Path:
        """Return a local path to read a file from: the file itself, or a download kept in `scratch`."""
        if self.local:
            return self.local_path(path)
        copy = self.scratch / "fetched" / path
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            part = copy.with_name(f"{copy.name}.{uuid.uuid4().hex[:8]}")
            try:
                self.fs.get_file(self.url(path), str(part))
            except (TimeoutError, ConnectionError) as err:
                raise RetryableError(f"{self.url(path)}: download failed: {err}") from err
            part.replace(copy)
        return copy

    def remove(self, path: str) -> None:
        """Delete a file; one that is gone already is no error."""
        if self.local:
            self.local_path(path).unlink(missing_ok=True)
        elif self.fs.exists(self.url(path)):
            self.fs.rm_file(self.url(path))

    def clean_temp(self) -> None:
        """Delete what an interrupted run left half made. Call it only while holding the run's lock."""
        if self.local:
            shutil.rmtree(self.scratch, ignore_errors=True)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
