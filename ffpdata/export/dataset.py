"""The export's folder: `dataset.json`, which says what it holds and whether it is complete, and the shards in it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ffpdata.core.errors import FatalError, shown
from ffpdata.storage.store import TEMP, Store, storage_errors

DATASET = "dataset.json"
CARD = "README.md"
FORMAT = "ffpdata-export-1"
_SEAL = "sha256"
SHARD_PATH = re.compile(r"\w[\w-]*/shard-\d{6,}\.tar")
"""A shard lies in the folder of its split, and nowhere else: its path is read from files that may come from anybody."""


@dataclass(frozen=True)
class Shard:
    """One shard: its tar (`<split>/shard-000000.tar`) and the Parquet twin beside it.

    Attributes:
        path: relative path of the tar.
        split: the split that it belongs to.
        pairs: number of samples.
        bytes: size of the tar.
        index_sha256: of the index, which has the hash of every file in the tar.
        plan: digest of what went in; a shard that has it needs no rewriting.
    """

    path: str
    split: str
    pairs: int
    bytes: int
    index_sha256: str
    plan: str

    @property
    def twin(self) -> str:
        """Relative path of the index."""
        return twin_of(self.path)

    def checked(self) -> Shard:
        """Return the shard; raises ValueError where a file says of it what cannot be."""
        numbers, texts = (self.pairs, self.bytes), (self.index_sha256, self.plan, self.split)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"pairs and bytes of a shard are {shown(numbers)}")
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"index_sha256, plan and split of a shard are {shown(texts)}")
        if not isinstance(self.path, str) or not SHARD_PATH.fullmatch(self.path):
            raise ValueError(f"the path of a shard is {shown(self.path)}, not like train/shard-000000.tar")
        return self


@dataclass(frozen=True)
class Dataset:
    """The content of `dataset.json`.

    Attributes:
        complete: False while an export is being written.
        shards: in order.
        about: everything else in the file: counts, geometry, models, settings.
        changed: whether the file is not as it was written; unknown, and so False, for one of an earlier release.
    """

    complete: bool
    shards: list[Shard] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    changed: bool = field(default=False, compare=False)

    @classmethod
    def load(cls, store: Store) -> Dataset:
        """Read `dataset.json`.

        Raises:
            FatalError: the folder is no export, or the file is damaged.
        """
        try:
            data = json.loads(store.read(DATASET))
            changed = data.pop(_SEAL, None) not in (None, _seal(data))
            found, shards = data.pop("format"), [Shard(**entry).checked() for entry in data.pop("shards")]
            dataset = cls(bool(data.pop("complete")), shards, data, changed)
        except (FileNotFoundError, NotADirectoryError):
            raise FatalError(f"{store.root} is no ffpdata export: it has no {DATASET}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
            why = f"{type(err).__name__}: {err}"
            raise FatalError(
                f"{store.root}/{DATASET} is damaged ({why}): put it back from a copy, or export into a new folder"
            ) from err
        if found != FORMAT:
            raise FatalError(f"{store.root}/{DATASET} has the format {found!r}, this release reads {FORMAT!r}")
        return dataset

    def save(self, store: Store) -> None:
        """Write `dataset.json`, unless it says so already."""
        data = {"format": FORMAT, "complete": self.complete, "shards": [vars(s) for s in self.shards], **self.about}
        store.write_if_changed(DATASET, _to_json(data | {_SEAL: _seal(data)}))


def _to_json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1) + "\n").encode()


def _seal(data: Mapping[str, Any]) -> str:
    """SHA-256 of all that the file says, so that a changed bit in it is noticed."""
    return hashlib.sha256(_to_json(data)).hexdigest()


def twin_of(tar: str) -> str:
    """Relative path of the index of a shard."""
    return tar.removesuffix(".tar") + ".parquet"


def check_place(store: Store) -> None:
    """Make an export's folder, or refuse one that holds something else with FatalError."""
    if store.exists(DATASET):
        Dataset.load(store)
        return
    if store.local:
        root = store.local_path("")
        if root.exists() and not root.is_dir():
            raise FatalError(f"{store.root} is a file: name a folder to export into")
        with storage_errors(store.root):
            root.mkdir(parents=True, exist_ok=True)
        there = sorted(p.name for p in root.iterdir() if p.name != TEMP)
    else:
        there = _names(store)
    if there:
        raise FatalError(
            f"{store.root} is not empty and no export (it holds {', '.join(there[:3])}, and no {DATASET}): "
            "name a new or an empty folder"
        )


@contextmanager
def only_writer(store: Store) -> Iterator[None]:
    """Hold the folder without leaving a lock file in the dataset; an object store has no such lock."""
    if not store.local:
        yield
        return
    handle = os.open(store.local_path(""), os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FatalError(f"{store.root} is being written by another export: wait for it to end") from None
        yield
    finally:
        os.close(handle)


def shard_files(store: Store) -> list[str]:
    """Paths of all shards and indexes in the export's folders, listed in `dataset.json` or not.

    What lies behind a link is another dataset's.
    """
    folders = [f for f in store.folders("") if not store.is_link(f)] if store.local else _names(store)
    names = [
        path
        for folder in folders
        if folder != TEMP
        for suffix in (".tar", ".parquet")
        for path in store.list(folder, suffix)
    ]
    return sorted(path for path in names if path.rsplit("/", 1)[1].startswith("shard-"))


def remove_stale(store: Store, shards: Sequence[Shard]) -> None:
    """Delete what an earlier export left; call it when the new shards are all in place."""
    wanted = {name for shard in shards for name in (shard.path, shard.twin)}
    for path in shard_files(store):
        if path not in wanted:
            store.remove(path)
            folder = store.local_path(path).parent if store.local else None
            if folder and not any(folder.iterdir()):
                folder.rmdir()


def _names(store: Store) -> list[str]:
    """Names right under a remote root."""
    try:
        return sorted(entry.rstrip("/").rsplit("/", 1)[1] for entry in store.fs.ls(store.root, detail=False))
    except FileNotFoundError:
        return []
