"""What is recorded of a file when it is written, and whether it is still so: its size and its SHA-256.

A record is a dict with `bytes` and `sha256`. Files that an earlier release wrote have none; of them only their presence
can be checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffpdata.storage.store import OutsideError, Store

_CHUNK = 1 << 20


def file_facts(path: Path) -> dict[str, Any]:
    """Return size and SHA-256 of a local file."""
    with path.open("rb") as stream:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def size_of(store: Store, path: str) -> int | None:
    """Return the bytes of a file; None where it is gone. Raises OutsideError where the path leads out of the folder."""
    try:
        return store.size(path)
    except FileNotFoundError:
        return None


def wrong_size(size: int | None, known: Mapping[str, Any] | None) -> str:
    """Say why a file cannot be the one that was written, without reading it; empty where nothing is known against it.

    Args:
        size: its bytes now; None where it is gone.
        known: its record, where there is one.
    """
    if size is None:
        return "is gone"
    if known and size != known["bytes"]:
        return f"is damaged: it has {size} bytes, {known['bytes']} were written"
    return ""


def wrong_content(store: Store, path: str, known: Mapping[str, Any] | None) -> str:
    """Say why a file is not the one that was written: it is read and its hash compared; nothing is raised.

    Args:
        store: the folder.
        path: relative path of the file.
        known: its record; without one only its presence is checked.
    """
    sha = hashlib.sha256()
    try:
        why = wrong_size(size_of(store, path), known)
        if why or not known:
            return why
        with store.open(path) as stream:
            while chunk := stream.read(_CHUNK):
                sha.update(chunk)
    except FileNotFoundError:
        return "is gone"
    except OutsideError as err:
        return f"is not read: {err}"
    except OSError as err:
        return f"cannot be read: {err.strerror or err}"
    return "" if sha.hexdigest() == known["sha256"] else CHANGED


CHANGED = "is damaged: its sha256 is not the one of the file that was written"
