"""Stopping a run: the first SIGINT or SIGTERM lets finish what is running, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Listens to the two signals while it is entered. In another thread than the main one it hears none."""

    def __init__(self) -> None:
        self.asked = False
        self.guard: Callable[[], None] | None = None
        self._before: dict[signal.Signals, signal.Handlers | object] = {}

    def __enter__(self) -> Stop:
        self.listen()
        return self

    def listen(self) -> None:
        """Hear the signals, also after another library took them."""
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
        """Raise KeyboardInterrupt where a stop was asked for, and whatever `guard` raises."""
        if self.guard:
            self.guard()
        if self.asked:
            raise KeyboardInterrupt

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        text = "Stopping once what is running is finished; the same command goes on from there. Again stops at once.\n"
        with suppress(OSError):  # not by the stream: in the middle of a line it refuses to be entered again
            os.write(2, text.encode())
