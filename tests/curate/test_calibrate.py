"""Thresholds from verdicts: simulated reviewers with known error rates, and a score whose true threshold is known."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.curate.calibrate import JudgedPair, calibrate, reviewer_error
from ffpdata.curate.verdicts import Verdict

WANTED = 0.9


def chance(scores: np.ndarray) -> np.ndarray:
    """That a pair of this score is good."""
    return 1 / (1 + np.exp(-1.2 * (scores - 4)))


def true_threshold(scores: np.ndarray) -> float:
    ordered = np.sort(scores)
    precision = chance(ordered)[::-1].cumsum()[::-1] / np.arange(len(ordered), 0, -1)
    return float(ordered[np.flatnonzero(precision >= WANTED)[0]])


def simulate(seed: int, *, pairs: int = 4000, reviewed: int = 900, error: float = 0.0, biased: bool = False):
    """Scores of all pairs, the judged pairs, and verdicts of two reviewers on the overlap."""
    draw = np.random.default_rng(seed)
    scores = draw.uniform(0, 10, pairs)
    good = draw.random(pairs) < chance(scores)
    odds = np.exp(-((scores - 5) ** 2) / 4) + 0.05 if biased else np.ones(pairs)
    chosen = draw.choice(pairs, reviewed, replace=False, p=odds / odds.sum())
    judged = [JudgedPair(float(score)) for score in scores]
    both = []
    for number, place in enumerate(chosen):
        said = good[place] ^ (draw.random(2) < error)
        judged[place] = JudgedPair(float(scores[place]), int(said[0]), int(not said[0]))
        if number % 3 == 0:
            both.append({f"r{n}": Verdict(f"r{n}", "accept" if yes else "reject") for n, yes in enumerate(said)})
    return scores, judged, both


@pytest.mark.parametrize("biased", [False, True], ids=["random sample", "uncertain first"])
@pytest.mark.parametrize("error", [0.0, 0.08])
def test_the_true_threshold_lies_in_the_interval(error: float, biased: bool) -> None:
    inside, offsets = 0, []
    for seed in range(10):
        scores, judged, _ = simulate(seed, error=error, biased=biased)
        cut = calibrate(judged, WANTED, error=error)
        assert cut
        assert cut.interval
        low, high = cut.interval
        truth = true_threshold(scores)
        inside += low <= truth <= high
        offsets.append(cut.threshold - truth)
        assert high - low < 2.5
    assert inside >= 8, "of ten intervals of 95 %"
    assert abs(np.mean(offsets)) < 0.25


def test_errors_of_reviewers_left_in_move_the_threshold() -> None:
    _, judged, _ = simulate(1, error=0.08)
    corrected, raw = calibrate(judged, WANTED, error=0.08), calibrate(judged, WANTED)
    assert corrected
    assert raw
    assert raw.threshold is None or raw.threshold > corrected.threshold + 0.5


@pytest.mark.parametrize("error", [0.0, 0.05, 0.15])
def test_the_error_is_read_from_the_overlap(error: float) -> None:
    found = [reviewer_error(simulate(seed, error=error)[2]) for seed in range(8)]
    assert np.mean(found) == pytest.approx(error, abs=0.015)
    assert reviewer_error([]) is None


def test_what_a_cut_tells_is_what_it_keeps() -> None:
    scores, judged, _ = simulate(3)
    cut = calibrate(judged, WANTED)
    assert cut
    assert (cut.pairs, cut.reviewed, cut.higher_is_better) == (4000, 900, True)
    assert cut.kept == int((scores >= cut.threshold).sum())
    above = scores >= cut.threshold
    assert cut.precision == pytest.approx(chance(scores[above]).mean(), abs=0.03)
    assert cut.recall == pytest.approx(chance(scores[above]).sum() / chance(scores).sum(), abs=0.03)
    assert cut.precision_interval[0] < cut.precision < cut.precision_interval[1]
    assert cut.auc > 0.8


def test_a_score_that_falls_with_quality() -> None:
    _, judged, _ = simulate(4)
    turned = [JudgedPair(10 - pair.score, pair.accepts, pair.rejects) for pair in judged]
    cut, other = calibrate(judged, WANTED), calibrate(turned, WANTED)
    assert cut
    assert other
    assert not other.higher_is_better
    assert other.threshold == pytest.approx(10 - cut.threshold, abs=0.3)


def test_more_reviews_narrow_the_interval() -> None:
    few, many = (calibrate(simulate(5, reviewed=count)[1], WANTED) for count in (150, 1500))
    assert few
    assert many
    width = few.precision_interval[1] - few.precision_interval[0]
    assert width > many.precision_interval[1] - many.precision_interval[0]
    assert few.more_reviews > many.more_reviews


def test_a_precision_that_no_threshold_reaches() -> None:
    draw = np.random.default_rng(0)
    judged = [JudgedPair(float(draw.random()), int(yes), int(not yes)) for yes in draw.random(300) < 0.4]
    cut = calibrate(judged, 0.98)
    assert cut
    assert cut.threshold is cut.interval is None
    assert cut.precision < 0.9
    assert 0.4 < cut.auc < 0.6


def test_too_little_is_told_as_nothing() -> None:
    assert calibrate([JudgedPair(1.0, 1, 0)] * 10 + [JudgedPair(0.0, 0, 1)] * 9, 0.9) is None
    assert calibrate([JudgedPair(float(n), 1, 0) for n in range(100)], 0.9) is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibrate([], 1.5)
    with pytest.raises(ValueError, match="tell nothing"):
        calibrate([], 0.9, error=0.5)
