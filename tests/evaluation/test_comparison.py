"""Two methods, clip by clip."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.core.errors import UsageError
from ffpdata.evaluation.comparison import compare, compare_all, holm
from tests.evaluation.made_up import table_of

BASE = np.random.default_rng(0).normal(20, 2, 60)


def test_identical_methods_do_not_differ() -> None:
    one = compare(table_of({"a": {"x": BASE.tolist()}, "b": {"x": BASE.tolist()}}), "a", "b", "x")
    assert (one.difference, one.low, one.high, one.p, one.found, one.more) == (0.0, 0.0, 0.0, 1.0, "", None)


def test_a_constant_shift_is_found() -> None:
    table = table_of({"a": {"x": (BASE + 0.25).tolist()}, "b": {"x": BASE.tolist()}})
    one = compare(table, "a", "b", "x")
    assert one.difference == pytest.approx(0.25)
    assert one.low == pytest.approx(0.25)
    assert one.p == pytest.approx(1e-4, rel=0.01), "1 of 10,000"
    assert (one.found, one.more, one.effect) == ("higher", 0, None)
    assert compare(table, "b", "a", "x").found == "lower"


def test_only_clips_of_both_count() -> None:
    one = compare(table_of({"a": {"x": [1, None, 3, None]}, "b": {"x": [0, 5, None, None]}}), "a", "b", "x")
    assert (one.n, one.only_a, one.only_b, one.neither, one.difference) == (1, 1, 1, 1, 1.0)
    none = compare(table_of({"a": {"x": [1, None]}, "b": {"x": [None, 1]}}), "a", "b", "x")
    assert (none.n, none.difference, none.p) == (0, None, None)


def test_few_clips_are_exact() -> None:
    one = compare(table_of({"a": {"x": [1.0, 2.0, 3.0, 4.0]}, "b": {"x": [0.0] * 4}}), "a", "b", "x")
    assert one.p == pytest.approx(2 / 16)


def test_clips_that_would_settle_it() -> None:
    noise = np.random.default_rng(3).normal(0, 1, 40)
    noise = 0.2 + (noise - noise.mean()) / noise.std(ddof=1)
    one = compare(table_of({"a": {"x": noise.tolist()}, "b": {"x": [0.0] * 40}}), "a", "b", "x")
    assert one.effect == pytest.approx(0.2)
    assert one.more == 197 - 40, "(1.960 + 0.842)^2 / 0.2^2 = 196.2"


def test_chance_alone_finds_one_in_twenty_and_holm_none() -> None:
    rng = np.random.default_rng(4)
    columns = {f"x{k}": rng.normal(0, 1, 50).tolist() for k in range(200)}
    zeros = {name: [0.0] * 50 for name in columns}
    made = compare_all(table_of({"a": columns, "b": zeros}), [("a", "b")], list(columns), resamples=999)
    assert 0.02 <= np.mean([one.p < 0.05 for one in made if one.p]) <= 0.09
    assert not any(one.found for one in made)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_a_plain_difference_is_found_among_many_tests() -> None:
    rng = np.random.default_rng(5)
    columns = {f"x{k}": rng.normal(2 * (k == 0), 1, 50).tolist() for k in range(100)}
    zeros = {name: [0.0] * 50 for name in columns}
    made = compare_all(table_of({"a": columns, "b": zeros}), [("a", "b")], list(columns), resamples=200)
    assert [one.metric for one in made if one.found] == ["x0"]


def test_an_unknown_method() -> None:
    with pytest.raises(UsageError, match="VACE"):
        compare(table_of({"VACE": {"x": [1.0]}}), "VACE", "vace", "x")
