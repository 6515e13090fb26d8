"""The score: a probability that nothing bad raises."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ffpdata.metrics.score import MOST, ScoreModel, TaskModel, Term, default_score
from ffpdata.metrics.style import STYLE
from ffpdata.metrics.vector import VECTOR
from ffpdata.metrics.words import WORDS
from ffpdata.stages.grade import Grade

NOISE = Term(metric="noise", side="high", knee=1, scale=2, weight=1.5)
MODEL = TaskModel(intercept=2, terms=(NOISE, Term(metric="psnr", side="low", knee=30, scale=5, weight=1)))


def test_faults_lower_it_from_what_a_pair_without_any_has() -> None:
    assert MODEL.probability({}) == pytest.approx(0.8808, abs=1e-4)
    assert MODEL.probability({"noise": 0.5, "psnr": 44}) == MODEL.probability({})
    assert MODEL.probability({"noise": 3}) == pytest.approx(0.6225, abs=1e-4)
    assert MODEL.faults({"noise": 3, "psnr": 10}) == [("psnr", 4), ("noise", 1.5)]
    assert NOISE.fault(1e9) == MOST
    assert MODEL.probability({"noise": float("nan"), "psnr": None}) == MODEL.probability({})


def test_a_task_may_be_scored_as_another() -> None:
    model = ScoreModel(about="", tasks={"modification": MODEL}, same={"swap": "modification"})
    assert model.of("swap") is model.of("modification")
    assert model.of("removal") is None


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(ValidationError):
        Term(metric="noise", side="high", knee=1, scale=2, weight=-1)


def test_the_default_says_what_it_was_fitted_on_and_knows_its_metrics() -> None:
    model = default_score()
    assert "injected defects" in model.about
    assert "not on people's verdicts" in model.about
    known = {metric.name for metric in VECTOR} | set(WORDS)
    assert known <= {*Grade.reads, *WORDS}
    for task in ("removal", "modification", "stylization"):
        found = model.of(task)
        assert found is not None
        assert {term.metric for term in found.terms} <= {*Grade.reads, *WORDS, *STYLE}, (
            "the stage must read what the score is made of"
        )
        assert found.fitted["auc"] >= 0.85
        assert found.probability({}) > 0.8
    assert model.of("swap") == model.of("modification")
