"""Stopping a run: after the first SIGINT or SIGTERM running items are finished, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Handles the two signals while it is entered; outside the main thread it handles none.

    Attributes:
        asked: whether a signal came.
        guard: called by `check`; raises where the run must not go on.
    """

    def __init__(self) -> None:
        self.asked = False
        self.guard: Callable[[], None] | None = None
        self._before: dict[signal.Signals, signal.Handlers | object] = {}

    def __enter__(self) -> Stop:
        self.listen()
        return self

    def listen(self) -> None:
        """Install the handlers, also after another library replaced them."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.signal(number, self._hear)
                self._before.setdefault(number, handler)

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise KeyboardInterrupt where a signal came, and whatever `guard` raises."""
        if self.guard:
            self.guard()
        if self.asked:
            raise KeyboardInterrupt

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        text = "Stopping once what is running is finished; the same command goes on from there. Again stops at once.\n"
        with suppress(OSError):  # not by sys.stderr, which cannot be written in the middle of another write
            os.write(2, text.encode())
