"""Hash a source's bytes: its items are named by content, not by path."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath
from typing import IO

from ffpdata.core.file_names import text_of
from ffpdata.core.keys import digest, source_id
from ffpdata.core.stage import Child, Reject, Row, Stage, StageSettings
from ffpdata.inputs.locations import IMAGE_SUFFIXES
from ffpdata.media.probe import probe

HINTS = ("given_object", "given_box", "given_caption", "given_source_caption", "licence")
"""Columns that the user may give for a source. The same bytes with other hints are another item."""


class SourceSettings(StageSettings):
    """Limits on a source file."""

    max_gb: float = 20.0


class Source(Stage):
    """Turn an input entry into an item that is named by the hash of its bytes."""

    name, version = "source", 1
    reads = (
        *("path", "fingerprint", "problem", "style_paths", "style_fingerprints", "url", "meta", *HINTS),
        *("reference_paths", "reference_fingerprints"),
        *("edited_first_frame_paths", "edited_first_frame_fingerprints"),
        *("mask_paths", "mask_fingerprints"),
        *("edited_frame_paths", "edited_frame_fingerprints", "edited_frame_indices"),
    )
    added = (
        *("reference_paths", "reference_fingerprints"),
        "given_source_caption",
        *("edited_first_frame_paths", "edited_first_frame_fingerprints"),
        *("mask_paths", "mask_fingerprints"),
        *("edited_frame_paths", "edited_frame_fingerprints", "edited_frame_indices"),
    )
    uses = ("root", "styles_offered")
    writes = {
        "path": str,
        "kind": str,
        "sha": str,
        "bytes": int,
        "given_object": str,
        "given_box": list[float],
        "given_caption": str,
        "licence": str,
        "url": str,
        "meta": dict,
        "style_paths": list[str],
        "style_ids": list[str],
        "reference_paths": list[str],
        "reference_ids": list[str],
        "edited_first_frame_paths": list[str],
        "edited_first_frame_ids": list[str],
        "given_source_caption": str,
        "mask_paths": list[str],
        "mask_ids": list[str],
        "edited_frame_paths": list[str],
        "edited_frame_ids": list[str],
        "edited_frame_indices": list[int],
        "styles_offered": bool,
    }
    fan_out = True
    Settings = SourceSettings

    def expand(self, row: Row) -> list[Child]:
        """Return one child, named by the hash; an unusable entry is rejected with its reason."""
        location = _relative(row["path"], row["root"])
        try:
            return [self._child(row, location)]
        except Reject as err:  # no hash without content: keep its location
            raise Reject(err.reason, err.detail, {"path": location}) from None

    def _child(self, row: Row, location: str) -> Child:
        if row.get("problem"):
            raise Reject(*row["problem"])
        sha, size = self._hash(row, location)
        columns = {name: row.get(name) for name in (*HINTS, "url", "meta")}
        columns |= {
            "path": location,
            "kind": _kind(location, row),
            "sha": sha,
            "bytes": size,
        }
        for kind in ("style", "reference", "edited_first_frame", "mask", "edited_frame"):
            if row.get(f"{kind}_paths"):
                images = [_relative(path, row["root"]) for path in row[f"{kind}_paths"]]
                columns[f"{kind}_paths"] = images
                columns[f"{kind}_ids"] = [self._hash(row, path)[0] for path in images]
        if row.get("style_paths"):
            columns["styles_offered"] = bool(row.get("styles_offered"))
        hints = {name: columns[name] for name in HINTS if columns.get(name) is not None}
        if columns.get("edited_first_frame_ids"):  # one clip may have several edits
            hints["edited_first_frame"] = columns["edited_first_frame_ids"]
        if columns.get("edited_frame_ids"):
            columns["edited_frame_indices"] = row["edited_frame_indices"]
            hints["edited_frame"] = [columns["edited_frame_ids"], columns["edited_frame_indices"]]
        if columns.get("mask_ids"):
            hints["mask"] = columns["mask_ids"]
        name = f"{sha}-{digest(hints)[:6]}" if hints else sha
        return Child(name, columns, source_id=sha)

    def _hash(self, row: Row, location: str) -> tuple[str, int]:
        path = row.input(location, self.settings.max_gb * 1e9)
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size == 0:
                raise Reject("empty_file", f"{_name(path)} has 0 bytes")
            if size > self.settings.max_gb * 1e9:
                raise Reject(
                    "too_large", f"{_name(path)} has {size / 1e9:.1f} GB, the limit is {self.settings.max_gb} GB"
                )
            return source_id(stream), size


def _relative(path: str, root: str) -> str:
    """Return a location relative to the input's root; URLs under it likewise, other URLs unchanged."""
    if not path or "://" in path or "://" in root:
        return path.removeprefix(f"{root}/")
    return os.path.relpath(path, root)


def _kind(location: str, row: Row) -> str:
    """`image` or `video`, by the name; a GIF is a video where it has several frames."""
    suffix = PurePosixPath(location).suffix.lower()
    if suffix != ".gif":
        return "image" if suffix in IMAGE_SUFFIXES else "video"
    try:
        return "image" if probe(row.input(location)).is_still else "video"
    except Reject:  # the reader of images says what is wrong with it
        return "image"


def _name(path: Path) -> str:
    return text_of(path.name)


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading; a pipe, a device or a folder is rejected without waiting for it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as err:
        if err.errno == errno.ENOENT:
            raise Reject("missing_file", f"{text_of(str(path))} does not exist") from None
        if err.errno == errno.ENXIO:  # a socket
            raise Reject("not_a_regular_file", f"{_name(path)} is a socket") from None
        raise Reject("unreadable", f"{text_of(str(path))}: {err.strerror}") from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
        raise Reject("not_a_regular_file", f"{_name(path)} is a {kinds.get(stat.S_IFMT(mode), 'special file')}")
    return os.fdopen(handle, "rb")
