"""One event loop in a thread of its own: all questions of a process go through it, from whatever thread they come."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from ffpdata.core.errors import RetryableError

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the process's loop, started at its first use."""
    global _loop  # noqa: PLW0603 - there is one per process, and this is it
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="vlm-client", daemon=True).start()
        return _loop


def call(work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
    """Run `work` on the loop and wait for it.

    Args:
        work: what to run; it bounds its own waits.
        seconds: the watchdog: `work` is given up after so long, whatever it is stuck in.

    Raises:
        RetryableError: the watchdog fired.
    """
    future = asyncio.run_coroutine_threadsafe(work, event_loop())
    try:
        return future.result(seconds)
    except concurrent.futures.TimeoutError:
        if future.done():  # the work itself ran into a time-out
            raise
        raise RetryableError(f"a request did not end within {seconds:.0f} s and was given up") from None
    finally:
        future.cancel()  # does nothing where it ended; also on Ctrl-C


def _forget() -> None:
    """After a fork the thread is gone: the child starts its own."""
    global _loop, _lock
    _loop, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
