"""Two rounds compared: known effects are found, chance and correlated edits are not taken for them."""

from __future__ import annotations

import json
import math
import random
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from ffpdata.curate.verdicts import Decision
from ffpdata.refine.compare import CompareSettings, Comparison, MeasureChange, compare
from ffpdata.refine.paired_tests import Resampling, by_source
from ffpdata.refine.removal_results import RemovalResult
from tests.refine.rounds_made_up import ACCEPTED, MEASURES, REJECTED, both, judged, outcome, scores, verdicts

QUICK = CompareSettings(resamples=199, pairs=0)
REVIEWED = CompareSettings(resamples=199, pairs=20)
SEEDS = 200


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def found(comparison: Comparison) -> dict[str, MeasureChange]:
    return {change.name: change for change in comparison.changes}


def promoted(seeds: int, make, settings: CompareSettings) -> float:
    """Share of made-up rounds that are promoted."""

    def bare(outcomes: list[RemovalResult]) -> list[RemovalResult]:
        return [replace(one, measures={}) for one in outcomes]

    return sum(compare(*map(bare, make(seed)), settings).better for seed in range(seeds)) / seeds


# --- rates ---


def test_a_better_model_is_found() -> None:
    assert promoted(40, lambda seed: both(seed, 30, 3, 0.8), QUICK) >= 0.9
    assert promoted(40, lambda seed: verdicts(seed, 60, 0.4, 0.8), REVIEWED) >= 0.9


def test_an_equal_model_is_promoted_at_the_stated_rate_at_most() -> None:
    # 5% of 200 are 10 with a standard deviation of 3: above 19 chance alone goes once in a thousand times.
    for sources in (8, 12):
        assert promoted(SEEDS, lambda seed, n=sources: both(seed, n, 3, 0.0), QUICK) <= 0.095
    assert promoted(SEEDS, lambda seed: verdicts(seed, 24, 0.5, 0.5), REVIEWED) <= 0.095


def test_a_higher_confidence_promotes_fewer_equal_ones() -> None:
    lax = CompareSettings(resamples=199, pairs=0, confidence=0.6)
    often = promoted(SEEDS, lambda seed: both(seed, 10, 1, 0.0), lax)
    assert 0.3 < often < 0.5  # 0.4: what the setting says


def test_a_worse_model_never_is() -> None:
    assert promoted(SEEDS, lambda seed: both(seed, 12, 2, -0.8), QUICK) == 0
    assert promoted(40, lambda seed: verdicts(seed, 30, 0.7, 0.4), REVIEWED) == 0


def test_edits_of_one_source_do_not_fake_significance() -> None:
    # 12 edits of each of 6 sources: as 72 independent ones, equal models would be promoted three times in ten.
    def make(seed: int) -> tuple[list[RemovalResult], list[RemovalResult]]:
        return both(seed, 6, 12, 0.0)

    assert promoted(SEEDS, make, QUICK) <= 0.095

    def apart(outcomes: list[RemovalResult]) -> list[RemovalResult]:
        return [replace(one, source_id=one.item_id) for one in outcomes]

    def independent(seed: int) -> tuple[list[RemovalResult], list[RemovalResult]]:
        before, after = make(seed)
        return apart(before), apart(after)

    assert promoted(60, independent, QUICK) > 0.2  # the danger is real: these rounds do show it


def test_every_source_counts_once() -> None:
    before = scores([5.0] * 11)
    after = [replace(one, screen_score=9.0) for one in before[:10]] + [replace(before[10], screen_score=4.0)]
    many = [replace(one, source_id="many") for one in before[:10]] + [replace(before[10], source_id="one")]
    change = found(compare(many, after, QUICK))["screen_score"]
    assert (change.items, change.sources) == (11, 2)
    assert (change.before, change.after, change.difference) == (5.0, 6.5, 1.5)


# --- what decides ---


def test_reviewers_decide_from_enough_pairs_on() -> None:
    before, after = judged([True] * 5 + [False] * 15), judged([True] * 20)
    worse = [replace(one, screen_score=3.0) for one in after]
    told = compare(before, worse, REVIEWED)
    assert (told.decided_by, told.better, told.missing) == ("acceptance", True, 0)
    assert re.fullmatch(
        r"Better: acceptance by reviewers rose from 25% to 100% \(20 removals of 20 sources, \+75 points, "
        r"\+\d\d to \+\d\d points, p = 0.005\), and no guard became worse\.",
        told.why,
    )
    told = compare(before, worse, CompareSettings(resamples=199, pairs=21))
    assert (told.decided_by, told.better) == ("screen_score", False)
    told = compare(before, [replace(one, screen_score=9.0) for one in after], CompareSettings(pairs=0, resamples=199))
    assert (told.decided_by, told.better, told.missing) == ("screen_score", True, 0)


def test_missing_counts_verdicts_until_the_reviewers_can_decide() -> None:
    before, after = judged([True, False] * 15), judged([True, False] * 15)
    settings = CompareSettings(resamples=99, pairs=25)
    some = after[:7] + [replace(one, decision=None) for one in after[7:]]
    assert compare(before, some, settings).missing == 18
    assert any("18 more pairs to judge" in line for line in compare(before, some, settings).lines())
    assert compare(before, after, settings).missing == 0
    # A pair without a target cannot be judged: with 6 of them only 24 can be, and nobody should wait for the rest.
    gone = [replace(one, files={}) if n >= 24 else one for n, one in enumerate(some)]
    assert compare(before, gone, settings).missing == 0
    assert compare(before[:20], some, settings).missing == 0
    assert "7 of 25 pairs were judged under both models" in compare(before, gone, settings).why


def test_a_pair_that_only_one_model_had_judged_does_not_count() -> None:
    before = judged([False] * 30)
    after = [replace(one, decision=ACCEPTED if n < 20 else None) for n, one in enumerate(before)]
    change = found(compare(before, after, REVIEWED))["acceptance"]
    assert (change.items, change.before, change.after) == (20, 0.0, 1.0)


def test_a_tie_of_reviewers_is_no_acceptance() -> None:
    tied = [outcome("a/0", decision=Decision(1, 1)), outcome("b/0", decision=Decision(2, 1))]
    assert found(compare(tied, tied, QUICK))["acceptance"].before == 0.5


# --- the numbers ---


def test_what_was_rejected_before_the_screening_scores_nothing() -> None:
    before = scores([6.0] * 4)
    after = [
        replace(before[0], status="rejected", stage="measure", reason="flicker_too_high", screen_score=None),
        replace(before[1], status="failed", stage="synthesize", screen_score=None),
        replace(before[2], status="rejected", stage="screen", reason="answer_invalid", screen_score=None),
        replace(before[3], status="rejected", stage="screen", reason="screened_out", screen_score=4.0),
    ]
    told = found(compare(before, after, QUICK))
    assert (told["screen_score"].items, told["screen_score"].after) == (2, 2.0)  # of 0 and 4: a fault tells nothing
    assert (told["yield"].items, told["yield"].before, told["yield"].after) == (4, 1.0, 0.0)


@pytest.mark.parametrize(
    ("name", "good"), [("psnr_outside", 1.0), ("flicker", -0.2), ("colour_drift", -0.6), ("structure", None)]
)
def test_directions(name: str, good: float | None) -> None:
    before = scores([6.0] * 10)

    def moved(by: float) -> MeasureChange:
        after = [replace(one, measures=MEASURES | {name: MEASURES[name] + by}) for one in before]
        return found(compare(before, after, QUICK))[name]

    by = good or 0.3
    verdicts = [moved(by).verdict, moved(-by).verdict]
    assert verdicts == (["", ""] if good is None else ["better", "worse"])
    assert [moved(by).broken, moved(-by).broken] == [False, good is not None]
    assert moved(by).difference == pytest.approx(by)
    assert moved(by).p < 0.05  # also where neither side is better: two-sided
    assert moved(-by).p < 0.05 if good is None else moved(-by).p > 0.9


def test_a_broken_guard_holds_a_better_model_back() -> None:
    before, after = both(1, 30, 1, 2.0)
    assert compare(before, after, QUICK).better
    dim = [replace(one, measures=MEASURES | {"psnr_outside": 34.0}) for one in after]
    told = compare(before, dim, QUICK)
    assert not told.better
    assert found(told)["psnr_outside"].broken
    assert "but PSNR outside the region fell by 1.00 dB (0.50 dB allowed)" in told.why
    assert told.why.startswith("Not better: screening score rose from ")
    allowed = QUICK.model_copy(update={"worse": {"psnr_outside": 1.5}})
    assert compare(before, dim, allowed).better
    # Beyond the limit, but on two sources alone: chance.
    few = [replace(one, measures=MEASURES | {"psnr_outside": 20.0}) if n < 2 else one for n, one in enumerate(after)]
    told = compare(before, few, QUICK)
    assert told.better
    assert found(told)["psnr_outside"].difference == -1.0


def test_reviewers_are_a_guard_where_the_screening_decides() -> None:
    before, after = both(1, 12, 1, 2.0)
    before = [replace(one, decision=ACCEPTED) for one in before]
    after = [replace(one, decision=REJECTED) for one in after]
    told = compare(before, after, CompareSettings(resamples=199, pairs=13))
    assert (told.decided_by, told.better) == ("screen_score", False)
    assert "acceptance by reviewers fell by 100 points (nothing allowed)" in told.why
    assert "by the screening alone, for only 12 of 13 pairs were judged" in told.why


def test_a_number_that_one_model_lacks_is_left_out() -> None:
    before, after = scores([6.0] * 6), scores([6.0] * 6)
    before = [replace(one, measures=one.measures | {"sharpness": 3.0, "gone": 1.0}) for one in before]
    after[:4] = [replace(one, measures=one.measures | {"sharpness": 4.0}) for one in after[:4]]
    after[0].measures["sharpness"] = math.nan
    told = found(compare(before, after, QUICK))
    assert (told["sharpness"].items, told["sharpness"].difference, told["sharpness"].verdict) == (3, 1.0, "")
    assert "gone" not in told
    assert list(told)[:2] == ["yield", "screen_score"]


# --- edges ---


def test_no_common_item() -> None:
    told = compare(scores([6.0]), [outcome("other/0")], REVIEWED)
    assert (told.changes, told.better, told.missing, told.left_out) == ((), False, 0, 2)
    assert told.why == "Not better: there is no removal that both models made."
    assert compare([], [], REVIEWED).why == told.why


@pytest.mark.parametrize("sources", [1, 2, 4])
def test_few_sources_show_nothing(sources: int) -> None:
    told = compare(scores([2.0] * sources), scores([9.0] * sources), QUICK)
    assert not told.better
    assert f"it differs in {sources} source{'s' * (sources > 1)}, too few to tell from chance: 5 are needed" in told.why
    change = found(told)["screen_score"]
    assert change.p == pytest.approx(0.5**sources)
    assert (change.interval is None) == (sources == 1)
    assert compare(scores([2.0] * 5), scores([9.0] * 5), QUICK).better


def test_no_difference_at_all() -> None:
    same = judged([True, False] * 20)
    told = compare(same, same, REVIEWED)
    assert not told.better
    assert all((c.difference, c.interval, c.p, c.verdict) == (0, (0, 0), 1, "") for c in told.changes)
    assert told.why == "Not better: acceptance by reviewers stayed at 50% (40 removals of 40 sources)."


def test_chance_is_named() -> None:
    told = compare(scores([6.0] * 8), scores([6.6, 5.6] * 4), QUICK)
    assert not told.better
    assert told.why.endswith("which chance may explain: p must be below 0.05.")


def test_no_removal_was_screened() -> None:
    unscreened = [replace(one, screen_score=None) for one in scores([1.0] * 5)]
    told = compare(unscreened, unscreened, QUICK)
    assert (told.better, told.why) == (
        False,
        "Not better: none of the 5 removals has a screening score under both models.",
    )


def test_an_item_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="0000/0 is there twice"):
        compare(scores([1.0]) * 2, scores([1.0]), QUICK)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"worse": {"flicke": 0.1}}, "did you mean 'flicker'"),
        ({"worse": {"structure": 0.1}}, "no side that is worse"),
        ({"worse": {"flicker": -0.1}}, "at least 0"),
        ({"worse": {"flicker": math.nan}}, "at least 0"),
        ({"confidence": 0.5}, "confidence"),
        ({"pears": 3}, "pears"),
    ],
)
def test_settings_that_say_nothing_valid(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CompareSettings(**settings)


# --- the same every time ---


def test_the_order_of_the_outcomes_makes_no_difference() -> None:
    before, after = both(5, 9, 3, 0.4)
    first = compare(before, after, QUICK)
    random.Random(1).shuffle(before)
    random.Random(2).shuffle(after)
    assert compare(before, after, QUICK) == first
    other = compare(before, after, QUICK.model_copy(update={"seed": 1}))
    assert found(other)["screen_score"].interval != found(first)["screen_score"].interval


def test_json_and_back() -> None:
    before, after = both(5, 9, 3, 0.4)
    for told in (
        compare(before, after, QUICK),
        compare(scores([1.0]), scores([2.0]), QUICK),
        compare([], [], QUICK),
        compare(
            judged([True] * 9), [replace(one, decision=None) for one in judged([True] * 9)], CompareSettings(pairs=5)
        ),
    ):
        assert Comparison.from_dict(json.loads(json.dumps(told.to_dict(), allow_nan=False))) == told


def test_lines_tell_every_number() -> None:
    before, after = both(1, 30, 1, 2.0)
    lines = compare(before, [*after, outcome("new/0")], QUICK).lines()
    assert lines[0].startswith("Better: screening score rose from ")
    assert lines[-1] == "1 removal is there under one model only and was left out."
    assert any(line.split()[:2] == ["added", "flicker"] and "0.50 -> 0.50" in line for line in lines)


# --- the statistics themselves ---


def test_the_interval_covers_the_true_difference() -> None:
    draws, covered = Resampling(299, 0), 0
    for seed in range(SEEDS):
        values = np.random.default_rng(seed).normal(0.5, 1, 25)
        paired = by_source((str(n), 0.0, float(v)) for n, v in enumerate(values))
        assert paired
        low, high = paired.interval(0.9, draws) or (1, 0)
        covered += low <= 0.5 <= high
    assert 0.83 <= covered / SEEDS <= 0.95


def test_few_sources_are_tested_exactly() -> None:
    paired = by_source((str(n), 0.0, v) for n, v in enumerate([3.0, 1.0, 2.0, -1.0]))
    assert paired
    # Of the 16 ways to set the signs, three give a sum of at least 5: none other, or only one of the ones turned.
    assert paired.p_value("greater", Resampling(999, 0)) == pytest.approx(3 / 16)
    assert paired.p_value("less", Resampling(999, 0)) == pytest.approx(15 / 16)


def test_sources_are_taken_in_the_order_of_their_names() -> None:
    values = [("b", 1.0, 2.0), ("a", 1.0, 5.0), ("b", 1.0, 4.0)]
    there, back = by_source(values), by_source(reversed(values))
    assert there
    assert back
    assert there.differences.tolist() == back.differences.tolist() == [4.0, 2.0]
