"""What a metric of a pair is: a number with a name, a unit, a direction, a range and a meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Pair

Better = Literal["higher", "lower", "neither"]
"""Which side is good; `neither`: the number describes, as motion does, or has a best value within its range."""


class PairMetric(Protocol):
    """One number of a pair. A metric that needs weights implements this too, in a file of its own."""

    @property
    def name(self) -> str:
        """Of its column."""
        ...

    @property
    def unit(self) -> str:
        """In words or symbols."""
        ...

    @property
    def better(self) -> Better:
        """Which side is good."""
        ...

    @property
    def low(self) -> float:
        """Smallest value."""
        ...

    @property
    def high(self) -> float:
        """Largest value."""
        ...

    @property
    def meaning(self) -> str:
        """One line."""
        ...

    def measure(self, pair: Pair) -> float | None:
        """Return the finite number, or None where it says nothing of such a pair."""
        ...


@dataclass(frozen=True)
class Metric:
    """A metric that is one function, whose name and first line of documentation are its name and its meaning."""

    function: Callable[[Pair], float | None]
    unit: str
    better: Better
    low: float
    high: float

    @property
    def name(self) -> str:
        """Column of the metric."""
        return self.function.__name__

    @property
    def meaning(self) -> str:
        """The first line of the function's documentation."""
        return (self.function.__doc__ or "").strip().splitlines()[0]

    def measure(self, pair: Pair) -> float | None:
        """Return the number within the metric's range, None where it says nothing of such a pair."""
        value = self.function(pair)
        return None if value is None else min(self.high, max(self.low, float(value)))
