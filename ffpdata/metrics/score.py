"""The score of a pair: the probability that a person would accept it, from its metrics, by a fitted model.

Per task a logistic model over faults: a fault is how far a metric lies on its bad side of what good pairs have, in
units of their spread, 0 where it is good and at most `MOST`. Every weight is at least 0: nothing bad raises a score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST = 8.0
"""Largest size of one fault: beyond it nothing is worse."""

DEFAULT: Literal["default"] = "default"
"""Name of the models that come with ffpdata."""


class Term(BaseModel):
    """One fault: `weight` times how far `metric` lies beyond `knee` on `side`, in units of `scale`, at most `MOST`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    side: Literal["low", "high"]
    knee: float
    scale: float = Field(gt=0)
    weight: float = Field(ge=0)

    def fault(self, value: float) -> float:
        """Return the size of the fault, 0..`MOST`."""
        beyond = value - self.knee if self.side == "high" else self.knee - value
        return min(MOST, max(0.0, beyond / self.scale))


class TaskModel(BaseModel):
    """The model of one task: probability 1 / (1 + exp(-(intercept - sum of weighted faults)))."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intercept: float
    terms: tuple[Term, ...]
    fitted: dict[str, Any] = {}
    """How well it was fitted: counts, areas under the curve, intervals; for people."""

    def probability(self, numbers: Mapping[str, Any]) -> float:
        """Return the probability, 0..1; a number that is missing counts as no fault."""
        logit = self.intercept - sum(size for _, size in self.faults(numbers))
        return 1 / (1 + math.exp(-min(50.0, max(-50.0, logit))))

    def faults(self, numbers: Mapping[str, Any]) -> list[tuple[str, float]]:
        """Return what lowers the probability, the worst first: metric and its share of the logit."""
        found = []
        for term in self.terms:
            value = numbers.get(term.metric)
            if isinstance(value, (int, float)) and math.isfinite(value) and term.weight * term.fault(value) > 0:
                found.append((term.metric, term.weight * term.fault(value)))
        return sorted(found, key=lambda entry: -entry[1])


class ScoreModel(BaseModel):
    """Models of the score, one per task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    """What it was fitted on."""
    tasks: dict[str, TaskModel]
    same: dict[str, str] = {}
    """Tasks that are scored as another one."""

    def of(self, task: str) -> TaskModel | None:
        """Return the model of a task; None where there is none."""
        return self.tasks.get(task) or self.tasks.get(self.same.get(task, ""))


@lru_cache(maxsize=1)
def default_score() -> ScoreModel:
    """Return the models that come with ffpdata: fitted on injected defects, not on people's verdicts."""
    return ScoreModel.model_validate_json((files("ffpdata.metrics") / "default_score.json").read_text(encoding="utf-8"))
