"""Checks of what a pipeline adds to samples: listed, the same in record and index, counted, and readable."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffpdata.core.errors import FfpdataError
from ffpdata.core.sections import FIXED_MEMBERS
from ffpdata.export.dataset import DATASET
from ffpdata.export.extras import COLUMNS
from ffpdata.export.loader import VIDEO_SUFFIXES
from ffpdata.media.codec import read_video
from ffpdata.media.images import decode_image
from ffpdata.storage.store import storage_errors

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class ExtraChecks:
    """The checks of one export, and what they count across shards.

    Args:
        about: what `dataset.json` says beside the list of shards.
    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.damaged = ""
        """What is wrong with `dataset.json` itself."""
        self._members: dict[str, set[str]] = defaultdict(set)
        self._types: dict[str, dict[str, str]] = defaultdict(dict)
        self._told: dict[tuple[str, str], int] = {}
        self._found: Counter[tuple[str, str]] = Counter()
        try:
            extras = about.get("extras", {"members": [], "columns": []})
            for entry in extras["members"]:
                self._members[entry["track"]].add(entry["name"])
            for entry in extras["columns"]:
                self._types[entry["track"]][entry["name"]] = entry["type"]
            for entry in (*extras["members"], *extras["columns"]):
                self._told[entry["track"], entry["name"]] = entry["pairs"]
        except (KeyError, TypeError, AttributeError) as err:
            self.damaged = f"lists wrongly what the pipeline adds: {err!r}"

    def index(self, columns: Sequence[str]) -> Iterator[str]:
        """Compare the columns that an index has of the pipeline's choice with those that are listed."""
        wanted = {name for types in self._types.values() for name in types}
        for name in sorted(wanted ^ set(columns)):
            yield f"lacks the column {name}" if name in wanted else f"has a column {name} that {DATASET} does not list"

    def sample(self, files: Mapping[str, Any], record: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[str]:
        """Compare one sample's files and columns with `dataset.json`, and its record with its row of the index."""
        track = str(record.get("track"))
        added = set(files) - FIXED_MEMBERS
        for name in sorted(added - self._members[track]):
            yield f"holds {name}, which {DATASET} does not list for the track {track}"
        self._found.update((track, name) for name in added)
        values, types = record.get(COLUMNS, {}), self._types[track]
        for name in sorted(set(values) ^ set(types)):
            yield f"its record {'lacks' if name in types else 'has'} the column {name}, against {DATASET}"
        self._found.update((track, name) for name, value in values.items() if value is not None)
        for name in sorted(set(values) & set(row)):
            if _held(row[name], types.get(name)) != values[name]:
                yield f"its index says {name} {row[name]!r}, its record {values[name]!r}"

    def unreadable(self, files: Mapping[str, bytes], track: str) -> Iterator[str]:
        """Read every listed file whose type is known."""
        for name in sorted(self._members[track] & set(files)):
            why = _unreadable(name, files[name])
            if why:
                yield f"{name} cannot be read: {why}"

    def counts(self) -> Iterator[str]:
        """Compare how many pairs have each with what is listed."""
        for (track, name), told in sorted(self._told.items()):
            if self._found[track, name] != told:
                yield f"{told} pairs of the track {track} should have {name}, {self._found[track, name]} have it"


def _held(value: Any, kind: str | None) -> Any:
    if kind != "dict" or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _unreadable(name: str, data: bytes) -> str:
    """Why a file cannot be read; empty where it can, or where nothing is known of its type."""
    if name.endswith((*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)):
        read: Callable[[Path], Any] = read_video if name.endswith(VIDEO_SUFFIXES) else decode_image
        with tempfile.TemporaryDirectory(prefix="ffpdata-verify-") as folder, storage_errors(folder):
            path = Path(folder) / "member"  # a name of our own: the one in the tar may lead anywhere
            path.write_bytes(data)
            try:
                read(path)
            except (FfpdataError, ValueError) as err:
                return str(err).replace(f"{path}: ", "")
    try:
        if name.endswith(".json"):
            json.loads(data)
        elif name.endswith((".npy", ".npz")):
            found = np.load(io.BytesIO(data), allow_pickle=False)
            for array in found if name.endswith(".npz") else ():
                found[array]
    except (ValueError, OSError, EOFError, RecursionError, MemoryError, zipfile.BadZipFile) as err:
        return str(err)
    return ""
