"""Interleaved timing of two ways to do one thing: what slows the machine slows both."""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """Median seconds of one way: on the wall, and of all processors, child processes included."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.cpu:.2f} CPU-s)"


def interleave(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[Cost, Cost]:
    """Run both in turn, one warm-up round first, and return the median cost of each."""
    measured: tuple[list[Cost], list[Cost]] = ([], [])
    for number in range(rounds + 1):
        pairs = [(ours, measured[0]), (theirs, measured[1])]
        for work, costs in pairs if number % 2 else pairs[::-1]:
            wall, cpu = time.perf_counter(), _cpu_seconds()
            work()
            if number:
                costs.append(Cost(time.perf_counter() - wall, _cpu_seconds() - cpu))
    first, second = (Cost(*map(statistics.median, zip(*costs, strict=True))) for costs in measured)
    return first, second


def add_size(parser: argparse.ArgumentParser) -> None:
    """Give a program options for the size of its clips; its bounds are meant for the defaults."""
    for name, default in {"width": 1280, "height": 720, "frames": 81}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"of the clips; {default}")


def verdict(name: str, value: float, bound: float, detail: str) -> bool:
    """Print one line: what was measured, its bound, and whether it holds."""
    good = value <= bound
    print(f"{'ok  ' if good else 'OVER'} {name}: {value:.2f} (bound {bound:.2f}), {detail}", flush=True)
    return good


def peak_megabytes() -> float:
    """Peak memory of this program alone: getrusage would also tell that of the process which started it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS, in bytes
    found = re.search(r"VmHWM:\s+(\d+)", status)
    assert found
    return int(found[1]) / 1024


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
