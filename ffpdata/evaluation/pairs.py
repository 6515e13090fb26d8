"""Pairs as a benchmark: those of an export, or the accepted ones of a run. Each source of pairs counts as a method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ffpdata.core.errors import FfpdataError, UsageError
from ffpdata.evaluation.entries import Choice, Entry, chosen_ids
from ffpdata.evaluation.methods import existing_folder, named
from ffpdata.export.dataset import DATASET
from ffpdata.export.loader import Pair, pairs
from ffpdata.export.pair_record import FIRST_FRAME, SOURCE, TARGET
from ffpdata.export.run_pairs import run_pairs
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.training.atomic_files import write_atomically


def read_pairs(results: Sequence[str], unpacked: Path, *, ids: Path | None = None) -> Choice:
    """Take the pairs of exports and runs; their clips are copied out, because shards hold no files.

    Args:
        results: folders of exports or runs, or `NAME=FOLDER`.
        unpacked: folder for the clips; what lies there from an earlier call is kept.
        ids: file with the keys of the pairs that count.

    Raises:
        UsageError: a folder is not there, is neither, or has no pair.
    """
    if not results:
        raise UsageError("name the folder of an export or of a run")
    entries: list[Entry] = []
    known: set[str] = set()
    for name, rest in map(named, results):
        folder = existing_folder(rest)
        method = name or folder.resolve().name
        if any(entry.method == method for entry in entries):
            raise UsageError(f"two methods are called {method!r}: name them, {method}-2={folder}")
        found = list(_entries(method, folder, unpacked / method))
        if not found:
            raise UsageError(f"{folder}: there is no accepted pair in it")
        entries += found
        known |= {entry.item for entry in found}
    if ids:
        chosen = set(chosen_ids(ids, known))
        entries = [entry for entry in entries if entry.item in chosen]
        return Choice(entries, f"ids of {ids.name}", len(chosen), len(known))
    return Choice(entries, "all", len(known), len(known))


def _entries(method: str, folder: Path, unpacked: Path) -> Iterator[Entry]:
    for pair in pairs(folder) if (folder / DATASET).is_file() else run_pairs(_run(folder)):
        at = unpacked / pair["key"]
        at.mkdir(parents=True, exist_ok=True)
        for member in (SOURCE, TARGET, FIRST_FRAME):
            if not (at / member).is_file():
                write_atomically(at / member, pair.files[member])
        yield _entry(method, pair, at)


def _run(folder: Path) -> RunFolder:
    try:
        return RunFolder.existing(folder)
    except FfpdataError as err:
        raise UsageError(f"{folder}: neither an export nor a run: {err}") from err


def _entry(method: str, pair: Pair, at: Path) -> Entry:
    captions: Mapping[str, Any] = pair["captions"]
    return Entry(
        method,
        pair["key"],
        at / TARGET,
        at / SOURCE,
        at / FIRST_FRAME,
        pair["task"],
        pair["instruction"],
        str(captions.get("target") or captions.get("style") or ""),
    )
