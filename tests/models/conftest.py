"""What tests of models share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

_TOOK = "took"
Clock = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def clock(record_property: Callable[[str, object], None]) -> Clock:
    """Measures a block; the end of the tests' report says how long it took."""

    @contextmanager
    def measure(what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        record_property(_TOOK, f"{what} took {time.monotonic() - began:.0f} s")

    return measure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("passed", []):
        for name, text in report.user_properties:
            if name == _TOOK:
                terminalreporter.write_line(text)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors are faster on one thread, and their sums are the same on every machine."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
