"""The benchmarks by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ffpdata.core.errors import UsageError, nearest
from ffpdata.evaluation.editverse import read_editverse
from ffpdata.evaluation.entries import Choice
from ffpdata.evaluation.pairs import read_pairs
from ffpdata.evaluation.table import is_table, read_items
from ffpdata.evaluation.unic import read_unic

BENCHMARKS = ("editverse", "unic", "pairs")


def read_benchmark(
    benchmark: str,
    results: Sequence[str],
    data: Path | None,
    *,
    unpacked: Path,
    ids: Path | None = None,
    full: bool = False,
) -> Choice:
    """Find what is to be evaluated.

    Args:
        benchmark: one of `BENCHMARKS`, or the file of a table.
        results: folders of results, or `NAME=FOLDER`.
        data: folder of the benchmark.
        unpacked: where clips go that lie in shards.
        ids: file with the items that count.
        full: take all items, also those that a benchmark's default leaves out.

    Raises:
        UsageError: no such benchmark, or one of its files is missing or cannot be read.
    """
    if data is not None and not data.is_dir():
        raise UsageError(f"--data {data}: no such folder")
    if benchmark == "editverse":
        return read_editverse(results, data, ids=ids, full=full)
    if benchmark == "unic":
        return read_unic(results, data, ids=ids, full=full)
    if benchmark == "pairs":
        return read_pairs(results, unpacked, ids=ids)
    if is_table(benchmark):
        return read_items(Path(benchmark).expanduser(), results, data, ids=ids)
    raise UsageError(
        f"no benchmark {benchmark!r}{nearest(benchmark, BENCHMARKS)}: give {', '.join(BENCHMARKS)} or a table, "
        "e.g. items.csv"
    )
