"""One event loop per process, in its own thread, for the requests of all threads."""

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
    """Return the process's loop, started at first use."""
    global _loop  # noqa: PLW0603 - one per process
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="vlm-client", daemon=True).start()
        return _loop


def call(work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
    """Run `work` on the loop and return its result.

    Args:
        work: coroutine, which limits its own waits.
        seconds: watchdog: `work` is cancelled after this time.

    Raises:
        RetryableError: the watchdog fired.
    """
    future = asyncio.run_coroutine_threadsafe(work, event_loop())
    try:
        return future.result(seconds)
    except concurrent.futures.TimeoutError:
        if future.done():  # the work itself timed out
            raise
        raise RetryableError(f"a request did not end within {seconds:.0f} s and was given up") from None
    finally:
        future.cancel()  # no effect if it has ended; needed for Ctrl-C


def _forget() -> None:
    """Reset after a fork: the child has no loop thread and starts its own."""
    global _loop, _lock
    _loop, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
