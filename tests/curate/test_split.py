from collections import Counter

import numpy as np

from ffpdata.curate.dedup import LookAlikes
from ffpdata.curate.split import source_groups, split_of

FRACTIONS = {"train": 0.9, "validation": 0.05, "test": 0.05}


def test_fractions_are_met_and_do_not_depend_on_the_rest() -> None:
    counts = Counter(split_of(f"{n:016x}", FRACTIONS, 0) for n in range(20_000))
    assert abs(counts["train"] / 20_000 - 0.9) < 0.01
    assert abs(counts["test"] / 20_000 - 0.05) < 0.01
    assert [split_of("abc", FRACTIONS, 0) for _ in range(3)] == [split_of("abc", FRACTIONS, 0)] * 3
    assert {split_of("abc", FRACTIONS, seed) for seed in range(60)} == set(FRACTIONS)


def test_fractions_count_relative_to_their_sum_and_none_goes_to_zero() -> None:
    names = [f"{n:016x}" for n in range(500)]
    assert [split_of(n, {"a": 9, "b": 1}, 3) for n in names] == [split_of(n, {"a": 0.9, "b": 0.1}, 3) for n in names]
    assert {split_of(n, {"none": 0, "all": 1, "last": 0}, 0) for n in names} == {"all"}


def test_sources_that_look_alike_share_a_group_named_by_the_smallest() -> None:
    sources = ["d", "b", "c", "a", "b", "e"]
    alike = LookAlikes(np.array([1, 2]), np.array([2, 5]), np.zeros(2, bool))  # b ~ c, c ~ e
    assert source_groups(sources, alike) == ["d", "b", "b", "a", "b", "b"]
    assert source_groups([], LookAlikes(*np.empty((2, 0), int), np.empty(0, bool))) == []
