"""Our numbers beside per-item numbers that somebody published: do both programs measure the same thing?"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ffpdata.core.errors import UsageError, nearest
from ffpdata.evaluation.statistics import metrics_of, scores_of

ITEM_COLUMNS = ("item", "id", "index", "key", "name", "video", "")
"""Names under which a CSV may have its items; the first that is there counts. Empty as pandas writes an index."""

METRIC_COLUMNS = {
    "clip_temporal_consistency": "clip_consistency",
    "dino_temporal_consistency": "dino_consistency",
    "frame_text_alignment": "frame_text",
    "video_text_alignment": "video_text",
    "pick_score_video_quality": "pick_score",
    "editing_vlm_evaluation": "judge_score",
}
"""EditVerse's names of the metrics (options of its eval.py), and our columns; a CSV may use either."""

TOLERANCE = 1e-3
"""Relative difference up to which two programs agree: our guess, other decoders and image processors being at work."""


@dataclass(frozen=True)
class Agreement:
    """One metric of one method against its CSV.

    Attributes:
        metric: our column.
        n: items with a number in both.
        largest, median: relative difference |ours - theirs| / |theirs|; None where n is 0.
        worst: item of the largest.
        beyond: items that differ by more than `TOLERANCE`.
        only_ours, only_theirs: items with a number on one side only.
    """

    metric: str
    n: int
    largest: float | None
    median: float | None
    worst: str | None
    beyond: int
    only_ours: Sequence[str]
    only_theirs: Sequence[str]

    @property
    def agrees(self) -> bool:
        """There is something to compare, and no item differs by more than the tolerance."""
        return self.n > 0 and not self.beyond


def agreement(table: pa.Table, file: Path, *, method: str | None = None) -> list[Agreement]:
    """Compare every metric that both have.

    Args:
        table: of an evaluation.
        file: CSV with a column of items and one per metric, under our names or EditVerse's. Rows that are no item of
            the table, a mean among them, count as theirs alone.
        method: whose rows of the table; None where it has one method.

    Raises:
        UsageError: the CSV cannot be read or has no known metric, or it is not clear whose it is.
    """
    metrics = metrics_of(table)
    methods = list(dict.fromkeys(table["method"].to_pylist()))
    if method is None and len(methods) != 1:
        raise UsageError(f"{file}: the results have {len(methods)} methods; say whose numbers these are")
    chosen = methods[0] if method is None else method
    if chosen not in methods:
        raise UsageError(f"no method {chosen!r} in the results{nearest(chosen, methods)}")
    theirs = _read(file, metrics)
    scores = scores_of(table, list(theirs))
    ours = scores.values[scores.methods.index(chosen)]
    return [
        _agreement(name, _numbers(scores.items, ours[:, number].tolist()), theirs[name])
        for number, name in enumerate(theirs)
    ]


def _numbers(items: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    return {item: value for item, value in zip(items, values, strict=True) if math.isfinite(value)}


def _agreement(metric: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> Agreement:
    names = _names(ours, theirs)
    both = [item for item in theirs if item in names]
    left, right = np.array([ours[names[item]] for item in both]), np.array([theirs[item] for item in both])
    far = np.abs(left - right) / np.maximum(np.abs(right), np.finfo(float).tiny)
    return Agreement(
        metric,
        len(both),
        float(far.max()) if both else None,
        float(np.median(far)) if both else None,
        both[int(far.argmax())] if both else None,
        int((far > TOLERANCE).sum()),
        [item for item in ours if item not in set(names.values())],
        [item for item in theirs if item not in names],
    )


def _names(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, str]:
    """Our item of each of theirs: of the same name, or of the same number (`7`, `0007` and `7.0`)."""
    by_number: dict[float, list[str]] = {}
    for item in ours:
        if (number := _number(item)) is not None:
            by_number.setdefault(number, []).append(item)
    found = {}
    for item in theirs:
        number = _number(item)
        alike = by_number.get(number, []) if number is not None else []
        if item in ours:
            found[item] = item
        elif len(alike) == 1:
            found[item] = alike[0]
    return found


def _read(file: Path, metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or ())
            lines = list(reader)
    except (OSError, UnicodeError, csv.Error) as err:
        raise UsageError(f"{file} cannot be read as CSV: {err}") from err
    lower = {column.strip().casefold(): column for column in columns}
    item_column = next((lower[name] for name in ITEM_COLUMNS if name in lower), None)
    if item_column is None:
        told = ", ".join(columns) or "none"
        raise UsageError(f"{file}: a column of items is needed ({', '.join(ITEM_COLUMNS[:-1])}). It has: {told}")
    taken = {METRIC_COLUMNS.get(name, name): column for name, column in lower.items() if column != item_column}
    taken = {name: column for name, column in taken.items() if name in metrics}
    if not taken:
        told = ", ".join(columns)
        raise UsageError(f"{file}: none of its columns is a metric of the results. It has: {told}")
    found: dict[str, dict[str, float]] = {name: {} for name in taken}
    for line in lines:
        for name, column in taken.items():
            value = _number(line.get(column))
            if value is not None:
                found[name][(line.get(item_column) or "").strip()] = value
    return found


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
