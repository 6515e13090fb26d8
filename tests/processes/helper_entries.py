"""What the helpers of these tests do, in their own processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ffpdata.core.errors import Reject


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Do what the request says and tell the process id."""
    value = request.get("value", 0)
    data = ACTIONS[request["do"]](value)
    return {"pid": os.getpid(), "said": value}, data if isinstance(data, bytes) else b""


def work(seconds: float) -> None:
    """Use so many CPU seconds."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def chatter(count: int) -> None:
    """Print much, as a decoder does."""
    print("x" * count)
    os.write(2, b"y" * count)


def refuse(detail: str) -> None:
    raise Reject("too_blue", detail)


ACTIONS: dict[str, Callable[[Any], object]] = {
    "say": lambda value: value,
    "data": lambda count: bytes(range(256)) * count,
    "work": work,
    "sleep": time.sleep,
    "eat": bytearray,
    "print": chatter,
    "signal": lambda name: os.kill(os.getpid(), getattr(signal, name)),
    "exit": os._exit,
    "reject": refuse,
    "raise": lambda value: value / 0,
    "write": lambda path: Path(path).write_bytes(b"x"),
}
