"""The storage of a run folder, local or s3://, with relative paths inside it.

A file appears under its final name complete or not at all: locally it is written under a temporary name in the same
folder tree, fsynced and renamed; on an object store it is one PUT. There every operation is retried while the store is
busy or unreachable (`storage/object_store.py`), and files that are read by path are downloaded into a scratch folder of
limited size (`storage/scratch.py`).

Nothing is written or deleted through a link below the root: a link there may lead into another dataset. The root itself
may be one, because its user named it; and files may be read through links.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import fsspec

from ffpdata.core.errors import NO_SPACE, FatalError, FfpdataError, disk_full, shown
from ffpdata.core.file_names import is_text, printable, text_of
from ffpdata.storage.object_store import check_url, is_s3, open_fs, patient
from ffpdata.storage.scratch import DownloadsInUse, process_scratch

T = TypeVar("T")

TEMP = ".tmp"
"""Folder under the root for files without a final name yet; emptied at the start of a run."""


class OutsideError(FatalError, ValueError):
    """A path that leads out of its store: it comes from a damaged or a hostile manifest."""


_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into a FatalError that says what to do; others are passed on."""
    try:
        yield
    except OSError as err:
        if disk_full(err):
            raise FatalError(f"{where}: {NO_SPACE}") from err
        if err.errno in _NOT_WRITABLE:
            raise FatalError(
                f"{where}: cannot be written ({err.strerror}). Make the folder writable for this user, or name another."
            ) from err
        raise


class Store:
    """Files under one root.

    An error of an object store is a FatalError where retrying cannot help (credentials, permissions, no bucket), and a
    RetryableError after `object_store.OUTAGE_SECONDS` of retrying.

    Args:
        root: a local folder or any fsspec URL, e.g. `s3://bucket/run`. Credentials and endpoints come from the
            environment (`AWS_*`, `FSSPEC_S3_ENDPOINT_URL`), never from the URL.
        timeout: seconds that one request to an object store may take; the client then does not retry it. By default
            the client's own limits.
    """

    def __init__(self, root: str | Path, *, timeout: float | None = None) -> None:
        text = str(root)
        self.local = "://" not in text or text.startswith("file://")
        if self.local:
            text = str(Path(text.removeprefix("file://")).absolute())
        self.root = text.rstrip("/") if self.local else check_url(text).rstrip("/")
        if not is_text(text_of(self.root)):
            raise FatalError(
                f"'{printable(text_of(self.root))}': the folder's name is not UTF-8: rename it, or name another"
            )
        self._fs: Any = None
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"Store({self.root!r})"

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.root,)

    @property
    def fs(self) -> Any:
        """The fsspec file system, opened at first use."""
        if self._fs is None:
            self._fs = fsspec.filesystem("file") if self.local else self._open_fs()
        return self._fs

    def _open_fs(self) -> Any:
        return open_fs(self.root, attempts=None if self._timeout is None else 1, timeout=self._timeout)

    @property
    def scratch(self) -> Path:
        """Folder of a local root for unfinished files: inside it, so that a rename is atomic."""
        return self.local_path(TEMP)

    def url(self, path: str) -> str:
        """Return the full location of a relative path; one that leaves the root raises OutsideError."""
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or "\0" in path:
            raise OutsideError(f"{shown(path)} is not a path inside {self.root}: do not trust the file that names it")
        return f"{self.root}/{parts}" if path else self.root

    def local_path(self, path: str) -> Path:
        """Return the local path of a relative path; raises ValueError where the root is not local."""
        if not self.local:
            raise ValueError(f"{self.root} is not a local folder")
        return Path(self.url(path))

    def is_link(self, path: str) -> bool:
        """Return whether a path is a symbolic link; never on an object store."""
        return self.local and self.local_path(path).is_symlink()

    def refuse_links(self, path: str) -> Path:
        """Return the local path for writing or deleting a file.

        Raises:
            FatalError: a folder on the way to it, below the root, is a symbolic link.
        """
        final = self.local_path(path)
        for parent in PurePosixPath(path).parents[:-1]:
            if self.is_link(str(parent)):
                folder = self.local_path(str(parent))
                raise FatalError(
                    f"{folder} is a link to {folder.readlink()}: nothing is written or deleted through links. Put a "
                    f"folder in its place; {self.root} itself may be a link"
                )
        return final

    def own_file(self, path: str) -> Path:
        """Return the local path of a file of this store, to be read.

        What lies right below the root may be a link, e.g. to another disk. Deeper links, devices and pipes are none of
        ours, and would let whoever sends a folder read other files of the user, or stop the program.

        Raises:
            OutsideError: the path leads elsewhere, or to no file.
        """
        file, (first, *below) = self.local_path(path), PurePosixPath(path).parts
        real = file.resolve()
        if real != self.local_path(first).resolve().joinpath(*below):
            raise OutsideError(f"{self.root}/{path} leads to {real}: links are not followed here, put the file there")
        return _regular(file)

    def exists(self, path: str) -> bool:
        """Return whether a file or folder exists."""
        if self.local:
            with _readable(self.root):
                return self.local_path(path).exists()
        return bool(self._do(path, self.fs.exists))

    def folders(self, folder: str) -> list[str]:
        """List the names of the folders directly in `folder`, sorted; a missing folder has none."""
        if self.local:
            root = self.local_path(folder)
            with _readable(self.root):
                return sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        try:
            found = self._do(folder, lambda url: self.fs.ls(url, detail=True, refresh=True))
        except FileNotFoundError:
            return []
        return sorted(e["name"].rstrip("/").rsplit("/", 1)[1] for e in found if e["type"] == "directory")

    def _files(self, folder: str) -> list[dict[str, Any]]:
        """Return the entries of a remote listing for the files directly in `folder`, sorted by name."""
        try:
            found = self._do(folder, lambda url: self.fs.ls(url, detail=True, refresh=True))
        except FileNotFoundError:
            return []
        return sorted((e for e in found if e["type"] == "file"), key=lambda e: str(e["name"]))

    def list(self, folder: str, suffix: str = "") -> list[str]:
        """List the relative paths of the files directly in `folder`, sorted; a missing folder has none."""
        if self.local:
            try:
                with _readable(self.root), os.scandir(self.local_path(folder)) as entries:
                    names = [e.name for e in entries if e.name.endswith(suffix) and e.is_file()]
            except FileNotFoundError:
                return []
        else:
            names = [e["name"].rsplit("/", 1)[1] for e in self._files(folder)]
        return sorted(f"{folder}/{name}" for name in names if name.endswith(suffix))

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the sizes in bytes of the files directly in `folder`, by relative path, sorted."""
        if self.local:
            return {path: self.size(path) for path in self.list(folder)}
        return {f"{folder}/{e['name'].rsplit('/', 1)[1]}": int(e["size"]) for e in self._files(folder)}

    def read(self, path: str) -> bytes:
        """Return a file's bytes; raises FileNotFoundError where it is missing, OutsideError where it is no file."""
        if self.local:
            with _readable(self.root):
                return _regular(self.local_path(path)).read_bytes()
        whole = {"max_concurrency": 1} if is_s3(self.root) else {}  # one request, without asking for the size first
        return bytes(self._do(path, lambda url: self.fs.cat_file(url, **whole)))

    def read_range(self, path: str, start: int, size: int) -> bytes:
        """Return a part of a file: fewer bytes than `size` where it ends before; errors as `read`."""
        if self.local:
            with self.open(path) as stream:
                stream.seek(start)
                return stream.read(size)
        return bytes(self._do(path, lambda url: self.fs.cat_file(url, start=start, end=start + size)))

    def size(self, path: str) -> int:
        """Return a file's size in bytes; raises FileNotFoundError where it is missing."""
        if self.local:
            return self.own_file(path).stat().st_size
        return int(self._do(path, self.fs.size))

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading."""
        if self.local:
            return self.own_file(path).open("rb")
        stream: IO[bytes] = self._do(path, lambda url: self.fs.open(url, "rb"))
        return stream

    def write(self, path: str, data: bytes, *, seconds: float | None = None) -> None:
        """Write a file atomically, replacing an existing one.

        Args:
            path: relative path.
            data: its content.
            seconds: how long to retry on a remote store; `object_store.OUTAGE_SECONDS` by default.
        """
        if not self.local:
            self._do(path, lambda url: self.fs.pipe_file(url, data), seconds)
            return
        with storage_errors(self.root):
            temp = self.temp_file(PurePosixPath(path).name)
            try:
                temp.write_bytes(data)
                self.commit(temp, path)
            finally:
                temp.unlink(missing_ok=True)

    def write_if_changed(self, path: str, data: bytes) -> None:
        """Write a file, unless one of the same bytes is there that is no link."""
        if self.is_link(path) or not self.exists(path) or self.read(path) != data:
            self.write(path, data)

    def temp_file(self, name: str) -> Path:
        """Return a new local path for an unfinished file; it ends in `name`."""
        if not self.local:
            return process_scratch().temp_file(name)
        final = self.refuse_links(f"{TEMP}/{uuid.uuid4().hex[:12]}-{name}")
        with storage_errors(self.root):
            final.parent.mkdir(parents=True, exist_ok=True)
        return final

    def commit(self, temp: Path, path: str) -> None:
        """Give a finished local file its final name, by fsync and rename or by one PUT; `temp` is removed."""
        if not self.local:
            try:
                self._do(path, lambda url: self.fs.put_file(str(temp), url))
            finally:
                temp.unlink(missing_ok=True)
            return
        final = self.refuse_links(path)
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

    def hold(self) -> AbstractContextManager[DownloadsInUse]:
        """Keep what `fetch` downloads for the length of a with block; afterwards the scratch is brought to its size."""
        return process_scratch().hold()

    def fetch(self, path: str, in_use: DownloadsInUse | None = None) -> Path:
        """Return a local path to read a file from: the file itself, or a download.

        Files of a run are named by their content and never change, so an existing copy is used again.

        Args:
            path: relative path.
            in_use: from `hold`; keeps the download until the end of that block.
        """
        if self.local:
            return self.own_file(path)

        def download(to: Path) -> None:
            self._do(path, lambda url: self.fs.get_file(url, str(to)))

        return process_scratch().fetch(self.url(path), download, in_use)

    def remove(self, path: str, *, seconds: float | None = None) -> None:
        """Delete a file, if it exists. `seconds` as in `write`."""
        if self.local:
            self.refuse_links(path).unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError):
            self._do(path, self.fs.rm_file, seconds)

    def clean_temp(self) -> None:
        """Delete the unfinished files of an interrupted run. Call it only while holding the run's lock."""
        if self.local:
            shutil.rmtree(self.scratch, ignore_errors=True)  # of a link it removes nothing
        elif is_s3(self.root):
            self._abort_uploads()

    def _abort_uploads(self) -> None:
        """Abort unfinished multipart uploads: they take space and no listing shows them."""
        bucket, prefix, _ = self.fs.split_path(f"{self.root}/artifacts/")
        with suppress(OSError, FfpdataError):  # some stores cannot, and some credentials may not
            found = patient(
                self.root, lambda: self.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix), seconds=0
            )
            for upload in found.get("Uploads", []):
                name = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                patient(self.root, partial(self.fs.call_s3, "abort_multipart_upload", **name), seconds=0)

    def _do(self, path: str, call: Callable[[str], T], seconds: float | None = None) -> T:
        """Call a remote operation on a path; missing permissions are a FatalError."""
        url = self.url(path)
        try:
            return patient(url, lambda: call(url), seconds)
        except PermissionError as err:
            raise FatalError(f"{url}: {err.strerror}. Check what the credentials may do in this bucket.") from None


def _regular(file: Path) -> Path:
    """Return a path that is a file or missing: to read a pipe would wait for ever, and a device may have no end."""
    with suppress(FileNotFoundError, NotADirectoryError):
        if not stat.S_ISREG(file.stat().st_mode):
            raise OutsideError(f"{file} is no file")
    return file


@contextmanager
def _readable(root: str) -> Iterator[None]:
    """Turn a PermissionError into a FatalError that says what to do."""
    try:
        yield
    except PermissionError as err:
        raise FatalError(
            f"{err.filename or root}: cannot be read ({err.strerror}). Make it readable for this user."
        ) from None


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
