"""The page of an evaluation, FOLDER/index.html: one file that plays the clips beside it and asks no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from ffpdata import __version__
from ffpdata.evaluation.comparison import LEVEL, POWER, Comparison, compare_all
from ffpdata.evaluation.metric_names import KNOWN, MetricName, name_of, ordered, printed
from ffpdata.evaluation.published import PublishedRow, differences, published
from ffpdata.evaluation.statistics import RESAMPLES, SEED, Scores, Summary, metrics_of, scores_of, summarise
from ffpdata.report.page import render, words

PAGE = "index.html"
TEMPLATE, SCRIPT = "evaluation.html.j2", "evaluation.js"

SHOWN_CLIPS = 2
"""Best and worst clips per metric, each."""
SHOWN_METRICS = 8
"""Most metrics whose clips are shown."""

OF_SOURCE = {"clip_consistency": "source_clip_consistency", "dino_consistency": "source_dino_consistency"}
"""A still clip scores 1.0 in these, so that the source's own number stands beside them."""


@dataclass(frozen=True)
class Cell:
    """A mean in a table of the page.

    Attributes:
        mean: printed.
        interval: printed, both ends; empty where there is none.
        note: what the reader has to know of it, such as that it is over fewer clips.
        source: the source's own mean, printed; empty where it has none.
    """

    mean: str
    interval: str = ""
    note: str = ""
    source: str = ""


def write_page(
    table: pa.Table,
    folder: Path,
    *,
    benchmark: str,
    title: str,
    subset: str | None = None,
    reference: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Path:
    """Write the page.

    Args:
        table: of the evaluation; `source` and `target` are paths relative to the folder.
        folder: in which the page will lie.
        benchmark: name, by which the printed rows beside ours are chosen.
        title: of the page.
        subset: which of the benchmark's items were evaluated, in words.
        reference: method that all others are compared with; by default the table's first.
        resamples: of each interval of a mean.
        seed: of the resamples.

    Returns:
        The page's path.

    Raises:
        UsageError: as `summarise` and `compare`.
    """
    metrics = ordered(metrics_of(table))
    scores = scores_of(table, metrics)
    summaries = {(one.method, one.metric): one for one in summarise(table, metrics, resamples=resamples, seed=seed)}
    main = [name for name in metrics if name in KNOWN and not name_of(name).of_source]
    further = [name for name in metrics if name not in KNOWN]
    judges = sorted({judge for judge in table["judge"].to_pylist() if judge}) if "judge" in table.schema.names else []
    first = reference or (scores.methods[0] if scores.methods else "")
    pairs = [(first, other) for other in scores.methods if other != first]
    compared = main or further[:SHOWN_METRICS]
    comparisons = compare_all(table, pairs, compared, seed=seed)
    rows = published(benchmark) if main else []
    page = render(
        TEMPLATE,
        script_file=SCRIPT,
        title=title,
        benchmark=benchmark,
        subset=subset,
        judges=judges,
        version=__version__,
        methods=scores.methods,
        items=len(scores.items),
        rows=table.num_rows,
        fine=sum(status == "ok" for status in table["status"].to_pylist()),
        tables=[(caption, _table(names, scores, summaries)) for caption, names in _tables(main, further)],
        published=_printed(rows, main, len(scores.items), judges, subset),
        still=[name_of(name).words for name in OF_SOURCE if name in metrics],
        not_measured=[name.words for key, name in KNOWN.items() if key not in metrics and not name.of_source],
        missing=_missing(scores, metrics, summaries),
        categories=[_bars(name, scores, summaries) for name in compared] if _has_categories(scores) else [],
        shows=_shows(table, scores, compared[:SHOWN_METRICS]),
        reference=first,
        comparisons=[(other, [_compared(one) for one in comparisons if one.b == other]) for _, other in pairs],
        tests=sum(one.p is not None for one in comparisons),
        level=LEVEL,
        power=POWER,
        resamples=resamples,
        seed=seed,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PAGE
    path.write_text(page, encoding="utf-8")
    return path


def _tables(main: Sequence[str], further: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    tables = [("", main), ("Measures without a model", further)]
    return [(caption, names) for caption, names in tables if names]


def _table(
    metrics: Sequence[str], scores: Scores, summaries: Mapping[tuple[str, str], Summary]
) -> tuple[Sequence[MetricName], list[tuple[str, list[Cell]]]]:
    body = []
    for method in scores.methods:
        cells = []
        for metric in metrics:
            one = summaries[method, metric]
            source = summaries.get((method, OF_SOURCE.get(metric, "")))
            interval = "" if one.low is None else f"{printed(metric, one.low)} to {printed(metric, one.high)}"
            note = f"{one.n} of {len(scores.items)} clips" if one.missing and one.n else ""
            cells.append(
                Cell(printed(metric, one.mean), interval, note, printed(metric, source.mean) if source else "")
            )
        body.append((method, cells))
    return [name_of(metric) for metric in metrics], body


def _printed(
    rows: Sequence[PublishedRow], metrics: Sequence[str], n: int, judges: Sequence[str], subset: str | None
) -> list[dict[str, Any]]:
    """Printed rows by the table that they stand in, with what makes that table incomparable."""
    tables: dict[str, list[PublishedRow]] = {}
    for row in rows:
        tables.setdefault(row.source, []).append(row)
    return [
        {
            "about": of_table[0],
            "warnings": differences(of_table[0], n=n, judges=judges, subset=subset),
            "rows": [(row.method, [row.printed(m) for m in metrics]) for row in of_table],
        }
        for of_table in tables.values()
    ]


def _missing(
    scores: Scores, metrics: Sequence[str], summaries: Mapping[tuple[str, str], Summary]
) -> list[tuple[str, list[tuple[str, int, str]]]]:
    """Per method what it lacks: the metrics' names, how many clips, and why; alike metrics in one."""
    told = []
    for method in scores.methods:
        alike: dict[tuple[int, str], list[str]] = {}
        for metric in metrics:
            one = summaries[method, metric]
            if one.missing:
                why = ", ".join(f"{words(reason)} {count}" for reason, count in sorted(one.why.items()))
                alike.setdefault((one.missing, why), []).append(name_of(metric).words)
        if alike:
            parts = [(_all_or(names, len(metrics)), count, why) for (count, why), names in alike.items()]
            told.append((method, parts))
    return told


def _all_or(names: Sequence[str], count: int) -> str:
    return "all metrics" if len(names) == count else ", ".join(names)


def _has_categories(scores: Scores) -> bool:
    return any(scores.categories.tolist())


def _bars(metric: str, scores: Scores, summaries: Mapping[tuple[str, str], Summary]) -> dict[str, Any]:
    """Per category and method the mean and a bar from the lowest mean of all to the highest."""
    groups = sorted(set(scores.categories.tolist()))
    found = {
        (group, method): summaries[method, metric].categories.get(group)
        for group in groups
        for method in scores.methods
    }
    known = [one.mean for one in found.values() if one and one.mean is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    reach = (high - low) or 1.0

    def cell(group: str, method: str) -> tuple[str, float, str]:
        one = found[group, method]
        if one is None or one.mean is None:
            return printed(metric, None), 0.0, "no clip has it"
        return printed(metric, one.mean), 4 + 96 * (one.mean - low) / reach, f"{one.n} clips, {one.missing} missing"

    return {
        "name": name_of(metric).words,
        "low": printed(metric, low if known else None),
        "high": printed(metric, high if known else None),
        "rows": [
            (group or "no category", int((scores.categories == group).sum()), [cell(group, m) for m in scores.methods])
            for group in groups
        ],
    }


def _shows(table: pa.Table, scores: Scores, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Per metric the best and the worst clips by the mean over methods, of the items that most methods have."""
    places = {
        key: at for at, key in enumerate(zip(table["method"].to_pylist(), table["item"].to_pylist(), strict=True))
    }
    shows = []
    for metric in metrics:
        values = scores.values[:, :, scores.metrics.index(metric)]
        counts = (~np.isnan(values)).sum(0)
        if not counts.any():
            continue
        whole = np.flatnonzero(counts == counts.max())
        ranked = whole[np.argsort(-np.nan_to_num(values[:, whole]).sum(0), kind="stable")]
        sign = name_of(metric).better
        ranked = ranked[::-1] if sign < 0 else ranked
        ends = ("highest", "lowest") if not sign else ("best", "worst")
        few = min(SHOWN_CLIPS, len(ranked) // 2) or 1
        chosen = [(ends[0], at) for at in ranked[:few]] + [
            (ends[1], at) for at in ranked[::-1][:few] if len(ranked) > 1
        ]
        strips = [_strip(table, scores, metric, int(at), places) | {"end": end} for end, at in chosen]
        shows.append({"name": name_of(metric).words, "strips": strips, "methods": int(counts.max())})
    return shows


def _strip(
    table: pa.Table, scores: Scores, metric: str, item: int, places: Mapping[tuple[str, str], int]
) -> dict[str, Any]:
    name, number = scores.items[item], scores.metrics.index(metric)
    columns = [c for c in ("source", "target", "instruction", "target_prompt") if c in table.schema.names]
    rows: dict[str, dict[str, Any]] = {}
    for method in scores.methods:
        if (at := places.get((method, name))) is not None:
            rows[method] = {column: table[column][at].as_py() for column in columns}
    source_of = OF_SOURCE.get(metric)
    sources = scores.values[:, item, scores.metrics.index(source_of)] if source_of in scores.metrics else np.array([])
    known = sources[~np.isnan(sources)]
    source = next((row["source"] for row in rows.values() if row.get("source")), None)
    clips = [("source", _url(source), printed(metric, float(known[0])) if len(known) else "", "no source")]
    for at, method in enumerate(scores.methods):
        value = scores.values[at, item, number]
        why = words(scores.fates[at, item] or "no clip")
        score = printed(metric, None if np.isnan(value) else float(value))
        clips.append((method, _url(rows.get(method, {}).get("target")), score, why))
    first = next(iter(rows.values()), {})
    text = first.get("instruction") or first.get("target_prompt") or ""
    return {"item": name, "category": scores.categories[item], "text": text, "clips": clips}


def _url(path: str | None) -> str:
    """Return the address of a clip relative to the page; a colon in a name begins no scheme."""
    return quote(path) if path else ""


def _compared(one: Comparison) -> dict[str, Any]:
    """What a row of the comparison shows; better is to the right."""
    name = name_of(one.metric)
    if one.difference is None:
        return {"one": one, "name": name, "bar": None}
    side = name.better or 1
    ends = [side * end for end in (one.low, one.high) if end is not None] or [side * one.difference]
    reach = 1.1 * max(abs(one.difference), *map(abs, ends)) or 1.0
    low, high, middle = (50 + 50 * at / reach for at in (min(ends), max(ends), side * one.difference))
    good = {"higher": 1, "lower": -1, "": 0}[one.found] * name.better
    digits = name.digits
    return {
        "one": one,
        "name": name,
        "bar": (low, high, middle),
        "a": printed(one.metric, one.mean_a),
        "b": printed(one.metric, one.mean_b),
        "difference": f"{one.difference:+.{digits}f}",
        "interval": "" if one.low is None else f"{one.low:+.{digits}f} to {one.high:+.{digits}f}",
        "verdict": {1: "better", -1: "worse", 0: one.found}[good],
    }
