"""Draws of what is uncertain, and intervals of what follows from them."""

from __future__ import annotations

import zlib

import numpy as np

from ffpdata.planning.flow_model import Draws
from ffpdata.planning.settings import Assumption

COUNT = 400
"""Draws. The ends of an interval of 90 % then lie within some percent of where more draws would put them."""


class Sampler:
    """Draws assumptions; the same name is the same draws, in every plan.

    Two variants side by side thus differ by what they change and by no chance. A number is as likely to be too high as
    too low: half of the draws lie below it, half above, and they thin out towards `low` and `high`.
    """

    def __init__(self, count: int = COUNT) -> None:
        self.count = count

    def rng(self, name: str) -> np.random.Generator:
        """Return a generator that belongs to a name."""
        return np.random.default_rng(zlib.crc32(name.encode()))

    def draw(self, name: str, number: Assumption) -> Draws:
        """Return the number itself, then draws between `low` and `high` with the number as their median."""
        if number.low == number.high:
            return np.full(1 + self.count, number.value)
        rng = self.rng(name)
        away = 1 - np.sqrt(1 - rng.random(self.count))  # a triangle that falls from 0 to 1
        ends = np.where(rng.random(self.count) < 0.5, number.low, number.high)
        return np.concatenate([[number.value], number.value + away * (ends - number.value)])


def interval(draws: Draws, confidence: float) -> tuple[float, float]:
    """Return the middle `confidence` of the draws, widened to the estimate where that lies beyond its end."""
    if len(draws) == 1:
        return float(draws[0]), float(draws[0])
    low, high = np.quantile(draws[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return min(float(low), float(draws[0])), max(float(high), float(draws[0]))
