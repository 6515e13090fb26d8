"""The location of an input: a local folder or a prefix of an object store, with the same methods.

Locations are text. A local one becomes the system's path (`core/file_names.py`) where a file is looked at.
"""

from __future__ import annotations

import glob
import io
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, TypeVar

from ffpdata.core.errors import Reject, UsageError
from ffpdata.core.file_names import path_of, text_of
from ffpdata.storage.object_store import check_url, open_fs, patient
from ffpdata.storage.scratch import DownloadsInUse, process_scratch

T = TypeVar("T")

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".apng", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif"}
IMAGE_SUFFIXES |= {".heic", ".heif", ".jxl", ".jp2"}  # not read: the row says what to convert them to
VIDEO_SUFFIXES = {
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".m4v",
    ".ts",
    ".mts",
    ".mpg",
    ".mpeg",
    ".3gp",
    ".wmv",
    ".flv",
}
MISSING = "missing"
"""Fingerprint of a missing file."""
LISTED_AT_ONCE = 200
"""From this number of files, a remote folder is listed; fewer files are looked up one by one, `THREADS` at a time."""
THREADS = 16


class Location(Protocol):
    """The root of an input, which contains all of its files."""

    root: str

    def folder(self, name: str) -> str:
        """Return the location of a sub-folder; empty where it does not exist."""

    def files(self, folder: str) -> Iterable[str]:
        """List the files below a folder, sorted, without hidden ones."""

    def join(self, path: str) -> str:
        """Return the location of a path relative to the root; an absolute one is returned as it is."""

    def problem(self, path: str) -> list[str] | None:
        """Return why a location cannot be used, as [reason, detail]; None where it can."""

    def fingerprints(self, paths: Iterable[str]) -> dict[str, str]:
        """Return a fingerprint per file: when it changes, the file must be hashed again."""


def plain(source: str) -> str:
    """Return a source without `file://`; raises ConfigError for a URL with credentials."""
    if source.startswith("file://"):
        return source.removeprefix("file://")
    return check_url(source) if "://" in source else source


def location_of(root: str) -> Location:
    """Return the location of a folder or URL."""
    root = plain(root)
    return RemoteLocation(root) if "://" in root else LocalLocation(Path(path_of(root)))


def kind_of(source: str) -> str:
    """`file`, `folder`, or nothing where a source is neither."""
    if "://" in source:
        return RemoteLocation(source).kind
    path = Path(path_of(source))
    return "file" if path.is_file() else "folder" if path.is_dir() else ""


def parent(source: str) -> str:
    """Return the folder of a file."""
    return source.rpartition("/")[0] if "://" in source else text_of(str(Path(path_of(source)).parent.resolve()))


def open_source(source: str) -> IO[bytes]:
    """Open a file of an input for reading; a remote one is read whole."""
    if "://" not in source:
        return Path(path_of(source)).open("rb")
    fs = open_fs(source)
    return io.BytesIO(patient(source, lambda: fs.cat_file(source)))


def match(pattern: str) -> tuple[Location, list[str]]:
    """Return the folder before a glob's first wildcard, and the files that it matches, sorted."""
    if "://" in pattern:
        location = RemoteLocation(_fixed_part(pattern))
        return location, location.match(pattern)
    local = path_of(pattern)
    try:
        found = sorted(glob.glob(local, recursive=True))  # noqa: PTH207 - absolute patterns, which Path.glob refuses
    except RecursionError:
        raise UsageError(
            f"--input {pattern!r}: the folders lie too deep in each other for a glob: name the folder itself"
        ) from None
    root = Path(_fixed_part(str(Path(local).absolute())))
    return LocalLocation(root), [text_of(str(Path(one).absolute())) for one in found]


def fetch_input(url: str, max_bytes: float, in_use: DownloadsInUse | None = None) -> Path:
    """Download a file of a remote input into this process's scratch and return its path.

    Args:
        url: of the file.
        max_bytes: largest size.
        in_use: from `Scratch.hold`; keeps the copy until the end of that block.

    Raises:
        Reject: it is missing, too large, or the credentials do not allow reading it.
        RetryableError: the object store does not answer.
        FatalError: the scratch has no space for it.
    """
    name, fs = url.rpartition("/")[2], open_fs(url)
    info = _input(url, lambda: fs.info(url))
    if info["type"] != "file":
        raise Reject("not_a_regular_file", f"{name} is a folder")
    if info["size"] > max_bytes:
        limit = f"{max_bytes / 1e9:g}"
        raise Reject("too_large", f"{name} has {info['size'] / 1e9:.1f} GB, the limit is {limit} GB")
    # The copy's name contains the fingerprint, because a file of an input may change.
    copy = f"{fingerprint(info)}/{url}"
    return process_scratch().fetch(copy, lambda to: _input(url, lambda: fs.get_file(url, str(to))), in_use)


def _input(url: str, call: Callable[[], T]) -> T:
    """Call an operation on a file of an input; a missing or forbidden file rejects its item."""
    try:
        return patient(url, call)
    except FileNotFoundError:
        raise Reject("missing_file", f"{url} does not exist") from None
    except PermissionError as err:
        raise Reject("unreadable", f"{url}: {err.strerror}") from None


def fingerprint(info: dict[str, Any]) -> str:
    """Return the fingerprint of a remote file by its listing entry."""
    tag = next((info[name] for name in ("ETag", "etag", "LastModified", "mtime", "created") if info.get(name)), "")
    return f"{info['size']}-{str(tag).strip(chr(34))}"


class LocalLocation:
    """A folder of this machine, with symbolic links resolved."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self.root = text_of(str(self._root))

    def folder(self, name: str) -> str:
        """Return the location of a sub-folder; empty where it does not exist."""
        return f"{self.root}/{name}" if (self._root / name).is_dir() else ""

    def files(self, folder: str) -> Iterator[str]:
        """List the entries below a folder, sorted; a folder with the suffix of a media file is an entry."""
        waiting = [path_of(folder)]
        while waiting:  # the next one is the last: folders may lie deeper in each other than calls can
            path = Path(waiting.pop())
            if str(path) != path_of(folder) and not _is_folder(path):
                yield text_of(str(path))
                continue
            try:
                inside = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
            except OSError:  # not readable, or its path is too long: the folder is an entry, whose row says so
                yield text_of(str(path))
                continue
            waiting += [str(path / name) for name in reversed(inside)]

    def join(self, path: str) -> str:
        """Return the location of a path relative to the root; an absolute one is returned as it is."""
        path = path.removeprefix("file://")
        return path if "://" in path else str(PurePosixPath(self.root) / path)

    def problem(self, path: str) -> list[str] | None:
        """Return why a location cannot be used, as [reason, detail]; None where it can."""
        if "://" in path:
            return _outside(path, self.root)
        if "\0" in path:
            return ["missing_path", "the path holds a NUL character"]
        try:
            real = Path(path_of(path)).resolve()
        except (OSError, RuntimeError) as err:
            return ["unreadable", f"{path}: {err}"]
        return None if real.is_relative_to(self._root) else _outside(path, self.root)

    def fingerprints(self, paths: Iterable[str]) -> dict[str, str]:
        """Return size and modification time of each file."""
        found = dict.fromkeys(paths, MISSING)
        for path in found:
            try:
                stat = os.stat(path_of(path))  # noqa: PTH116 - the path may hold anything
            except (OSError, ValueError):
                continue
            found[path] = f"{stat.st_size}-{stat.st_mtime_ns}"
        return found


class RemoteLocation:
    """A prefix of an object store."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self._protocol = root.partition("://")[0]
        self._fs = open_fs(root)
        self._seen: dict[str, str] = {}
        self._files: dict[str, list[str]] = {}

    @property
    def kind(self) -> str:
        """`file`, `folder`, or empty where nothing exists."""
        try:
            info = patient(self.root, lambda: self._fs.info(self.root))
        except FileNotFoundError:
            return ""
        return "file" if info["type"] == "file" else "folder"

    def folder(self, name: str) -> str:
        """Return the location of a sub-folder; empty where it has no files."""
        url = f"{self.root}/{name}"
        return url if RemoteLocation(url).kind == "folder" else ""

    def files(self, folder: str) -> list[str]:
        """List the files below a folder without hidden ones, in the order of a local listing; each folder once."""
        if folder not in self._files:
            self._files[folder] = self._note(patient(folder, lambda: self._fs.find(folder, detail=True)))
        return self._files[folder]

    def match(self, pattern: str) -> list[str]:
        """List the files that a pattern matches, sorted."""
        return self._note(patient(pattern, lambda: self._fs.glob(pattern, detail=True)))

    def join(self, path: str) -> str:
        """Return the location of a path relative to the root; an absolute one is returned as it is."""
        return path if "://" in path or path.startswith("/") else f"{self.root}/{path.removeprefix('./')}"

    def problem(self, path: str) -> list[str] | None:
        """Return why a location cannot be used, as [reason, detail]; None where it can."""
        below = path.removeprefix(f"{self.root}/")
        if below == path or ".." in below.split("/"):
            return _outside(path, self.root)
        return None

    def fingerprints(self, paths: Iterable[str]) -> dict[str, str]:
        """Return size and etag of each file."""
        found = {path: self._seen.get(path, MISSING) for path in paths}
        folders: dict[str, list[str]] = defaultdict(list)
        for path, fingerprint_seen in found.items():
            if fingerprint_seen == MISSING and self.problem(path) is None:
                folders[path.rpartition("/")[0]].append(path)
        single = []
        for folder, members in folders.items():
            if len(members) >= LISTED_AT_ONCE:
                self._note(patient(folder, partial(self._list, folder)))
                found |= {path: self._seen.get(path, MISSING) for path in members}
            else:
                single += members
        with ThreadPoolExecutor(THREADS) as threads:
            found |= zip(single, threads.map(self._look, single), strict=True)
        return found

    def _list(self, folder: str) -> dict[str, Any]:
        return {info["name"]: info for info in self._fs.ls(folder, detail=True)}

    def _look(self, path: str) -> str:
        try:
            info = patient(path, lambda: self._fs.info(path))
        except (FileNotFoundError, PermissionError):
            return MISSING
        return fingerprint(info) if info["type"] == "file" else MISSING

    def _note(self, listed: dict[str, Any]) -> list[str]:
        """Store the fingerprints of listed files and return their locations, without hidden ones."""
        found = []
        for name, info in listed.items():
            url = f"{self._protocol}://{name.lstrip('/')}"
            if info["type"] == "file" and not url.endswith("/"):
                self._seen[url] = fingerprint(info)
                below = url.removeprefix(f"{self.root}/")
                if not any(part.startswith(".") for part in below.split("/")):
                    found.append(url)
        return sorted(found, key=lambda url: url.split("/"))


def _is_folder(path: Path) -> bool:
    """Return whether a path is a folder whose files are entries."""
    try:
        return path.is_dir() and not path.is_symlink() and path.suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES
    except OSError:  # a path that is too long
        return False


def _fixed_part(pattern: str) -> str:
    """Return the folder of a glob before its first wildcard."""
    parts = []
    for part in pattern.split("/")[:-1]:
        if any(c in part for c in "*?["):
            break
        parts.append(part)
    return "/".join(parts) or "/"


def _outside(path: str, root: str) -> list[str]:
    what = "put it there" if "://" in path or "://" in root else "move it there"
    return ["path_outside_input", f"{path} lies outside {root}: {what}, or allow more with --set input.root=DIR"]
