"""The score's fit: simulated reviewers whose taste is known."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from ffpdata.curate.reliability_plot import reliability_svg
from ffpdata.curate.score_fit import Judged, auc, fit_task, reliability
from ffpdata.curate.score_verdicts import PairNumbers, fit_verdicts

DIRECTIONS = {"noise": "lower", "psnr_outside_p5": "higher", "sharpness": "neither", "halo": "lower"}


def simulate(seed: int, pairs: int = 400, sources: int = 40) -> list[Judged]:
    """People mind noise above 2 and a sharpness that is not 1; a source's pairs are alike; halo tells nothing."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(pairs):
        noise, sharp = draw.exponential(1.5), draw.normal(1, 0.25)
        logit = 3 - 1.2 * max(0.0, noise - 1) - 6 * max(0.0, abs(sharp - 1) - 0.1)
        good = float(draw.random() < 1 / (1 + np.exp(-logit)))
        numbers = {"noise": noise, "sharpness": sharp, "halo": draw.normal(), "psnr_outside_p5": draw.normal(40, 2)}
        found.append(Judged(numbers, good, f"s{number % sources}"))
    return found


def test_what_people_mind_is_found_and_its_probability_is_right() -> None:
    fit = fit_task(simulate(0, 1500), DIRECTIONS)
    assert fit is not None
    weights = {(term.metric, term.side): term.weight for term in fit.model.terms}
    assert min(weights[key] for key in (("noise", "high"), ("sharpness", "low"), ("sharpness", "high"))) > 0.1
    assert max((w for (name, _), w in weights.items() if name in {"halo", "psnr_outside_p5"}), default=0) < 0.1
    found = fit.reliability
    assert found.auc > 0.75
    low, high = found.auc_interval
    assert low < found.auc < high < low + 0.1
    assert found.error < 0.06, "the mean distance of prediction and observation"
    within = [a - 0.08 <= p <= b + 0.08 for p, a, b in zip(found.predicted, found.low, found.high, strict=True)]
    assert sum(within) >= len(within) - 1


def test_a_source_is_never_predicted_by_a_model_that_saw_it() -> None:
    """Verdicts by the toss of a coin: a model that saw a source would know them by its mark."""
    draw = np.random.default_rng(4)
    pairs = []
    for source in range(24):
        good, mark = float(source % 2), draw.normal()
        pairs += [Judged({"noise": mark + 1e-3 * draw.normal()}, good, f"s{source}") for _ in range(6)]
    fit = fit_task(pairs, DIRECTIONS)
    assert fit is not None
    assert fit.reliability.auc < 0.75
    assert np.isfinite(fit.unseen).all()


@pytest.mark.parametrize("pairs", [simulate(1, 12), [Judged({"noise": float(n)}, 1.0, "a") for n in range(40)]])
def test_too_few_or_all_alike_give_no_model(pairs: list[Judged]) -> None:
    assert fit_task(pairs, DIRECTIONS) is None


def test_the_area_counts_ties_half() -> None:
    assert auc(np.array([1.0, 2, 3]), np.array([False, True, True])) == 1
    assert auc(np.array([1.0, 1, 1]), np.array([False, True, True])) == 0.5
    assert auc(np.array([1.0]), np.array([True])) is None


def test_predictions_that_are_right_lie_on_the_diagonal() -> None:
    draw = np.random.default_rng(2)
    predicted = draw.random(4000)
    good = (draw.random(4000) < predicted).astype(float)
    found = reliability(predicted, good, np.ones(4000), [f"s{n % 100}" for n in range(4000)])
    assert found.error < 0.03
    assert sum(found.count) == 4000
    assert found.brier == pytest.approx(1 / 6, abs=0.02)


def test_the_diagram_is_a_picture_with_a_dot_per_bin() -> None:
    fit = fit_task(simulate(3), DIRECTIONS)
    assert fit is not None
    root = ET.fromstring(reliability_svg({"removal & more": fit.reliability}, "<about>"))  # noqa: S314
    assert len(root.findall(".//{*}circle")) == len(fit.reliability.count)
    assert any("removal & more" in (text.text or "") for text in root.findall(".//{*}text"))


def test_verdicts_of_a_run_give_a_model_per_task_and_a_score_for_every_pair() -> None:
    """Errors of reviewers are taken out: with an error of 0.2 a good pair is accepted by four of five."""
    draw = np.random.default_rng(6)
    pairs = []
    for n, judged in enumerate(simulate(5, 400)):
        votes = draw.binomial(5, 0.8 if judged.good else 0.2) if n % 2 else 0
        pairs.append(PairNumbers("swap", judged.source, judged.numbers, int(votes), 5 - int(votes) if n % 2 else 0))
    pairs += [PairNumbers("removal", "x", {"noise": 1.0}, 1, 0)]
    found = fit_verdicts(pairs, error=0.2)
    assert found is not None
    assert set(found.fits) == {"swap"}
    assert found.model.same == {}
    assert found.model.of("swap").probability({}) > 0.7
    assert found.scores[-1] is None
    assert all(0 <= score <= 1 for score in found.scores[:-1] if score is not None)
    assert fit_verdicts(pairs[-1:]) is None
