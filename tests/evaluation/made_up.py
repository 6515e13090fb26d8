"""Tables of an evaluation with known numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

TEXTS = ("reason", "category", "instruction", "target_prompt", "source", "target", "judge")


def table_of(scores: Mapping[str, Mapping[str, Sequence[float | None]]], **texts: Any) -> pa.Table:
    """Make the table of scores by method and metric; texts are one for all rows."""
    metrics = list(dict.fromkeys(metric for columns in scores.values() for metric in columns))
    rows: dict[str, list[Any]] = {name: [] for name in ("method", "item", "status", *TEXTS, *metrics)}
    for method, columns in scores.items():
        for number in range(max(map(len, columns.values()), default=0)):
            rows["method"].append(method)
            rows["item"].append(str(number))
            rows["status"].append("ok")
            for name in TEXTS:
                rows[name].append(texts.get(name))
            for metric in metrics:
                rows[metric].append(columns[metric][number] if metric in columns else None)
    kinds = {name: pa.float64() if name in metrics else pa.string() for name in rows}
    return pa.table({name: pa.array(values, kinds[name]) for name, values in rows.items()})
