"""What tests of models share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

_TOOK = pytest.StashKey[dict[str, float]]()
Clock = Callable[[str], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def clock(request: pytest.FixtureRequest) -> Clock:
    """Measures a block; the end of the tests' report says how long it took."""
    took = request.config.stash.setdefault(_TOOK, {})

    @contextmanager
    def measure(what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        took[what] = time.monotonic() - began

    return measure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what, seconds in config.stash.get(_TOOK, {}).items():
        terminalreporter.write_line(f"{what} took {seconds:.0f} s")


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
