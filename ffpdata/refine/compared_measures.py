"""The measures by which two models' removals are compared: values, which side is better, and how to print them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ffpdata.refine.removal_results import OK, RemovalResult

ACCEPTANCE, YIELD, SCREEN_SCORE = "acceptance", "yield", "screen_score"

SCREEN = "screen"
"""The stage that writes the screening score."""


@dataclass(frozen=True)
class Measure:
    """How one measure is judged and printed.

    Attributes:
        words: its name for people.
        better: 1 where more is better, -1 where less is, 0 where neither is; such a measure is shown and never decides.
        unit: printed after the number.
        share: whether it is a fraction of 1, printed in percent.
    """

    words: str
    better: Literal[-1, 0, 1]
    unit: str = ""
    share: bool = False

    def value(self, number: float) -> str:
        """Format a value: `61%`, `38.2 dB`."""
        return f"{number:.0%}" if self.share else f"{_number(number)}{self._space}"

    def change(self, number: float, *, sign: bool = True) -> str:
        """Format a difference: `+17 points`, `-1.2 dB`."""
        return f"{self._signed(number, sign)}{' points' if self.share else self._space}"

    def between(self, low: float, high: float) -> str:
        """Format an interval of differences: `+5 to +29 points`."""
        return f"{self._signed(low)} to {self.change(high)}"

    def _signed(self, number: float, sign: bool = True) -> str:
        text = f"{100 * number:.0f}" if self.share else _number(number)
        return f"+{text}" if sign and number >= 0 else text

    @property
    def _space(self) -> str:
        return f" {self.unit}" if self.unit else ""


MEASURES = {
    ACCEPTANCE: Measure("acceptance by reviewers", 1, share=True),
    YIELD: Measure("yield", 1, share=True),
    SCREEN_SCORE: Measure("screening score", 1),
    "psnr_outside": Measure("PSNR outside the region", 1, "dB"),
    "flicker": Measure("added flicker", -1),
    "colour_drift": Measure("colour drift outside the region", -1, "Lab"),
    # How much a clean removal changes depends on the object: more or less of these is neither good nor bad.
    "structure": Measure("edges kept", 0),
    "change_inside": Measure("change inside the region", 0),
    "change": Measure("change", 0),
    "motion": Measure("motion of the source", 0),
}
"""Measures that ffpdata knows; those of `stages/measure.py` are explained in `media/metrics.py`."""


def measure(name: str) -> Measure:
    """Return how a measure is judged and printed; an unknown one has no better side."""
    return MEASURES.get(name) or Measure(name.replace("_", " "), 0)


def acceptance(outcome: RemovalResult) -> float | None:
    """Return 1 where the reviewers accepted the pair, 0 where they did not, None where nobody judged it."""
    return None if outcome.decision is None else float(outcome.decision.accepted)


def passed(outcome: RemovalResult) -> float:
    """Return 1 where the removal passed all stages, 0 where a stage rejected it or failed."""
    return float(outcome.status == OK)


def screen_score(outcome: RemovalResult) -> float | None:
    """Return the screening score, 0..10.

    A removal that a stage before the screening rejected counts as 0. None where it failed, or where the screening
    itself gave no score.
    """
    if outcome.screen_score is not None:
        return outcome.screen_score
    return 0.0 if outcome.status == "rejected" and outcome.stage != SCREEN else None


_COMPUTED: dict[str, Callable[[RemovalResult], float | None]] = {
    ACCEPTANCE: acceptance,
    YIELD: passed,
    SCREEN_SCORE: screen_score,
}


def measured_value(name: str, outcome: RemovalResult) -> float | None:
    """Return one measure of a removal; None where it has no finite value."""
    number = _COMPUTED[name](outcome) if name in _COMPUTED else outcome.measures.get(name)
    return number if number is not None and math.isfinite(number) else None


def measure_names(outcomes: Iterable[RemovalResult]) -> list[str]:
    """List the measures that some of the removals have: those of `MEASURES` first, in their order, others by name."""
    found = {name for outcome in outcomes for name in outcome.measures} - set(_COMPUTED)
    known = [name for name in MEASURES if name in _COMPUTED or name in found]
    return known + sorted(found - set(known))


def _number(value: float) -> str:
    """Format a number with about three significant digits."""
    if value == 0 or abs(value) >= 0.01:
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{value:.1g}"
