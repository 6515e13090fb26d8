"""Means, their intervals, and what is missing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ffpdata.core.errors import UsageError
from ffpdata.evaluation.statistics import means_of, metrics_of, scores_of, summarise
from tests.evaluation.made_up import table_of


def test_known_means_and_missing_ones_counted() -> None:
    table = table_of({"a": {"x": [1.0, 2.0, None, float("nan")]}, "b": {"x": [4.0]}})
    of_a, of_b = summarise(table, ["x"])
    assert (of_a.mean, of_a.n, of_a.missing, of_a.why) == (1.5, 2, 2, {"not measured": 2})
    assert (of_b.mean, of_b.n, of_b.missing, of_b.why) == (4.0, 1, 3, {"no row": 3})
    assert (of_b.low, of_b.high) == (None, None), "one clip has no interval"


def test_a_rejected_output_is_missing_with_its_reason() -> None:
    table = table_of({"a": {"x": [1.0, None]}})
    table = table.set_column(table.schema.get_field_index("status"), "status", [["ok", "rejected"]])
    table = table.set_column(table.schema.get_field_index("reason"), "reason", [[None, "broken_output"]])
    assert summarise(table, ["x"])[0].why == {"broken_output": 1}


def test_by_category() -> None:
    table = table_of({"a": {"x": [1.0, 3.0, 10.0, None]}})
    table = table.set_column(table.schema.get_field_index("category"), "category", [["add", "add", None, "remove"]])
    parts = summarise(table, ["x"])[0].categories
    assert {name: (one.mean, one.n, one.missing) for name, one in parts.items()} == {
        "": (10.0, 1, 0),
        "add": (2.0, 2, 0),
        "remove": (None, 0, 1),
    }


def test_intervals_cover_as_often_as_they_say() -> None:
    draws = np.random.default_rng(1).normal(5, 2, (400, 60))
    covered = np.mean([one.low <= 5 <= one.high for one in means_of(list(draws), resamples=500)])  # type: ignore[operator]
    assert 0.91 <= covered <= 0.98
    widths = [one.high - one.low for one in means_of(list(draws), resamples=500)]  # type: ignore[operator]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 2 / np.sqrt(60), rel=0.05)


def test_of_a_seed_and_of_equal_numbers() -> None:
    column = np.random.default_rng(2).random(30)
    assert means_of([column]) == means_of([column])
    assert means_of([column], seed=1) != means_of([column])
    [same] = means_of([np.full(9, 0.1)])
    assert (same.mean, same.low, same.high) == (0.1, 0.1, 0.1)


def test_an_empty_table_and_wrong_names() -> None:
    table = table_of({"a": {"clip_consistency": [1.0]}})
    assert summarise(table.slice(0, 0), ["clip_consistency"]) == []
    assert metrics_of(table.slice(0, 0)) == []
    with pytest.raises(UsageError, match="clip_consistency"):
        scores_of(table, ["clip_consistencies"])
    with pytest.raises(UsageError, match="two rows of method 'a' and item '0'"):
        scores_of(pa.concat_tables([table, table]), ["clip_consistency"])
