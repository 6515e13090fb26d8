"""Means that papers and repositories printed, to stand beside one's own: `published.yaml` in this folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ffpdata.core.yaml_text import load, read_text

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class PublishedRow:
    """One method in one printed table.

    Attributes:
        method: as the table names it.
        benchmark: `editverse`, `unic` or `i2vedit`.
        subset: which of the benchmark's items, in words.
        n: outputs per method; None where it is not said.
        judge: model and frames behind `judge_score`; None where nothing was judged.
        source: where it is printed.
        means: by metric, in the units of our columns.
        digits: by metric, how many its table prints after the point.
    """

    method: str
    benchmark: str
    subset: str
    n: int | None
    judge: str | None
    source: str
    means: Mapping[str, float]
    digits: Mapping[str, int]

    def printed(self, metric: str) -> str:
        """Return a mean as its table prints it; a dash where it has none."""
        return f"{self.means[metric]:.{self.digits[metric]}f}" if metric in self.means else "\u2013"


def published(benchmark: str | None = None) -> Sequence[PublishedRow]:
    """Return the printed rows, all of them or those of a benchmark, in the order of the file.

    Args:
        benchmark: as in `PublishedRow`, or a name that begins so, such as `EditVerseBench`.
    """
    wanted = (benchmark or "").casefold()
    return [row for row in _rows() if benchmark is None or wanted.startswith(row.benchmark)]


@cache
def _rows() -> tuple[PublishedRow, ...]:
    return tuple(
        PublishedRow(
            method,
            table["benchmark"],
            table["subset"],
            table["n"],
            table["judge"],
            table["source"],
            dict(zip(table["metrics"], means, strict=True)),
            _digits(table),
        )
        for table in load(read_text(FILE))
        for method, means in table["rows"].items()
    )


def _digits(table: Mapping[str, Any]) -> dict[str, int]:
    columns = zip(*table["rows"].values(), strict=True)
    longest = [max(len(str(mean).partition(".")[2]) for mean in column) for column in columns]
    return dict(zip(table["metrics"], longest, strict=True))


def differences(row: PublishedRow, *, n: int, judges: Collection[str], subset: str | None) -> list[str]:
    """Say in words what makes a printed row and our numbers incomparable; empty where nothing known does.

    Args:
        row: the printed one.
        n: outputs per method that ours count.
        judges: models behind our `judge_score`; empty where nothing was judged.
        subset: which items ours are, in words; None where it is not known.
    """
    told = []
    if row.n is None:
        told.append("its number of outputs is not known")
    elif row.n != n:
        told.append(f"of {row.n} outputs, ours of {n}")
    if row.judge and judges:
        same = all(_model(row.judge) in judge.casefold() for judge in judges)
        if not same:
            told.append(f"judged by {row.judge}, ours by {', '.join(sorted(judges))}")
    elif row.judge:
        told.append(f"judged by {row.judge}, ours not judged")
    if (subset or "").casefold() != row.subset.casefold() or "not published" in row.subset:
        told.append(f"another subset than ours ({subset or 'not said'}), as far as is known")
    return told


def _model(judge: str) -> str:
    return judge.split(",", 1)[0].strip().casefold()
