"""CPU seconds of the items that a process has in hand at once."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ffpdata.processes import helper_process


@dataclass(eq=False)
class Share:
    """CPU seconds of one item."""

    seconds: float = 0.0


class CpuShares:
    """Divides the CPU seconds of this process equally among its items in hand, so that no second is counted twice.

    An item that is alone gets all of them. Those of child processes count when they end, those of helpers at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: list[Share] = []
        self._seen = 0.0

    @contextmanager
    def item(self) -> Iterator[Share]:
        """A block that works on one item; its share is complete when the block ends."""
        share = Share()
        with self._lock:
            self._divide()
            self._items.append(share)
        try:
            yield share
        finally:
            with self._lock:
                self._divide()
                self._items.remove(share)

    def _divide(self) -> None:
        now = _cpu()
        for share in self._items:
            share.seconds += (now - self._seen) / len(self._items)
        self._seen = now


def _cpu() -> float:
    """CPU seconds of this process, of the child processes it has waited for, and of its helpers."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + usage.ru_utime + usage.ru_stime + helper_process.cpu_seconds()
