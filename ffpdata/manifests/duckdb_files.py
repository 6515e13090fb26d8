"""The file system through which DuckDB reads a remote run folder: each file is downloaded once into the local scratch.

DuckDB asks for a file's size and time hundreds of times while it binds views; on an object store each is a request.
"""

from __future__ import annotations

import fnmatch
import os
from typing import IO, TYPE_CHECKING, Any

from fsspec import AbstractFileSystem

if TYPE_CHECKING:
    from ffpdata.storage.store import Store


class _Handle:
    """An open file that closes itself, because DuckDB drops files without closing them."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __del__(self) -> None:
        self._stream.close()


class ManifestFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The files of a remote store, with each folder as it was first listed; for one connection.

    Only for files whose content never changes, such as parts of manifests.

    Args:
        store: a remote run folder.
    """

    cachable = False

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.protocol = store.root.partition("://")[0]
        self._store = store
        self._listed: dict[str, list[str]] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path)

    def unstrip_protocol(self, name: str) -> str:
        """Return the location, which is a full URL already."""
        return name

    def glob(self, path: str, maxdepth: int | None = None, **_: Any) -> list[str]:  # noqa: ARG002
        """List the files of one folder whose names match; a location without a wildcard is returned unchecked."""
        folder, _slash, pattern = self._relative(path).rpartition("/")
        if not any(c in pattern for c in "*?["):
            return [path]
        if folder not in self._listed:
            self._listed[folder] = self._store.list(folder)
        return [self._store.url(f) for f in self._listed[folder] if fnmatch.fnmatchcase(f.rpartition("/")[2], pattern)]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return size and time of a file."""
        stat = self._stat(path)
        return {"name": path, "size": stat.st_size, "type": "file", "mtime": stat.st_mtime}

    def modified(self, path: str) -> Any:
        """Return the time of the local copy, which suffices because the content never changes."""
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self._stat(path).st_mtime, UTC)

    def open(self, path: str, mode: str = "rb", **_: Any) -> _Handle:
        """Open the local copy for reading."""
        if "w" in mode or "a" in mode:
            raise PermissionError(f"{path}: manifests are not written by SQL")
        with self._store.hold() as in_use:
            return _Handle(self._store.fetch(self._relative(path), in_use).open("rb"))

    def _stat(self, path: str) -> os.stat_result:
        with self._store.hold() as in_use:
            return self._store.fetch(self._relative(path), in_use).stat()

    def _relative(self, path: str) -> str:
        return path.removeprefix(f"{self._store.root}/")
