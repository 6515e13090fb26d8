"""Interleaved timing of two ways to do one thing: what slows the machine slows both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def interleave(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Run both in turn, one warm-up round first, and return the median seconds of each."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        pairs = [(ours, times[0]), (theirs, times[1])]
        for work, seconds in pairs if number % 2 else pairs[::-1]:
            started = time.perf_counter()
            work()
            if number:
                seconds.append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])


def verdict(name: str, value: float, bound: float, detail: str) -> bool:
    """Print one line: what was measured, its bound, and whether it holds."""
    good = value <= bound
    print(f"{'ok  ' if good else 'OVER'} {name}: {value:.2f} (bound {bound:.2f}), {detail}", flush=True)
    return good
