"""The numbers by which two models' removals are compared: where they come from, which side is better, how they read."""

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
    """How one number is read.

    Attributes:
        words: what it is called.
        better: 1 where more is better, -1 where less is, 0 where neither is: such a number is shown and never decides.
        unit: behind the number.
        share: whether it is a share, told in percent.
    """

    words: str
    better: Literal[-1, 0, 1]
    unit: str = ""
    share: bool = False

    def value(self, number: float) -> str:
        """Tell a value: `61%`, `38.2 dB`."""
        return f"{number:.0%}" if self.share else f"{_number(number)}{self._space}"

    def change(self, number: float, *, sign: bool = True) -> str:
        """Tell a difference: `+17 points`, `-1.2 dB`."""
        return f"{self._signed(number, sign)}{' points' if self.share else self._space}"

    def between(self, low: float, high: float) -> str:
        """Tell an interval of differences: `+5 to +29 points`."""
        return f"{self._signed(low)} to {self.change(high)}"

    def _signed(self, number: float, sign: bool = True) -> str:
        told = f"{100 * number:.0f}" if self.share else _number(number)
        return f"+{told}" if sign and number >= 0 else told

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
    # What a clean removal changes depends on what stood there: more or less of these is neither good nor bad.
    "structure": Measure("edges kept", 0),
    "change_inside": Measure("change inside the region", 0),
    "change": Measure("change", 0),
    "motion": Measure("motion of the source", 0),
}
"""Those that ffpdata knows; the numbers of `stages/measure.py` are explained in `media/metrics.py`."""


def measure(name: str) -> Measure:
    """How a number is read; one that nobody told of has no better side."""
    return MEASURES.get(name) or Measure(name.replace("_", " "), 0)


def acceptance(outcome: RemovalResult) -> float | None:
    """1 where the reviewers accepted the pair, 0 where they did not, None where nobody judged it."""
    return None if outcome.decision is None else float(outcome.decision.accepted)


def passed(outcome: RemovalResult) -> float:
    """1 where the removal passed all gates; 0 where one rejected it, or where it failed."""
    return float(outcome.status == OK)


def screen_score(outcome: RemovalResult) -> float | None:
    """The screening score, 0..10.

    A removal that was rejected before the screening counts as 0: it was not even worth asking. None where there is no
    telling: it failed, or the screening itself gave no score.
    """
    if outcome.screen_score is not None:
        return outcome.screen_score
    return 0.0 if outcome.status == "rejected" and outcome.stage != SCREEN else None


_OWN: dict[str, Callable[[RemovalResult], float | None]] = {
    ACCEPTANCE: acceptance,
    YIELD: passed,
    SCREEN_SCORE: screen_score,
}


def value(name: str, outcome: RemovalResult) -> float | None:
    """Return one number of a removal; None where it has none that is finite."""
    number = _OWN[name](outcome) if name in _OWN else outcome.measures.get(name)
    return number if number is not None and math.isfinite(number) else None


def names(outcomes: Iterable[RemovalResult]) -> list[str]:
    """Every number that some of the removals have: those that may decide first, then the others by name."""
    found = {name for outcome in outcomes for name in outcome.measures} - set(_OWN)
    known = [name for name in MEASURES if name in _OWN or name in found]
    return known + sorted(found - set(known))


def _number(value: float) -> str:
    """Two digits after the point where there is little before it."""
    if value == 0 or abs(value) >= 0.01:
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{value:.1g}"
