"""The inside of a helper process: it takes requests from its standard input and answers them on its standard output.

It sets its limits before it imports what may be attacked. It ends with the thread that started it, and with its pipe.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import math
import os
import resource
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from typing import IO, Any

from ffpdata.core.errors import Reject

PR_SET_PDEATHSIG = 1
"""Linux: have a signal sent when the parent dies."""
HEADER = struct.Struct(">II")
"""Before an answer: bytes of its JSON and bytes of the data that follows it."""

Answer = tuple[dict[str, Any], bytes]


def main(entry: str, parent: str, cpu_s: str, memory: str, idle_s: str) -> None:
    """Answer requests until the owner closes the pipe, dies, or asks nothing for `idle_s` seconds.

    Args:
        entry: `module:function` that answers.
        parent: process id of the owner.
        cpu_s: CPU seconds of a request.
        memory: bytes of address space.
        idle_s: seconds to wait for a request.
    """
    _restrict(int(parent), int(memory))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    function: Callable[[dict[str, Any]], Answer] | None = None
    while select.select([requests], [], [], float(idle_s))[0] and (line := requests.readline()):
        _allow(int(cpu_s))
        try:
            if function is None:
                module, _, name = entry.partition(":")
                function = getattr(importlib.import_module(module), name)
            _write(answers, *function(json.loads(line)))
        except Reject as err:
            _problem(answers, "reject", err.detail, reason=err.reason)
        except MemoryError:
            _problem(answers, "memory", "")
        except ImportError as err:
            _problem(answers, "import", str(err))
        except Exception:  # noqa: BLE001 - the owner raises it
            _problem(answers, "error", traceback.format_exc())


def _restrict(parent: int, memory: int) -> None:
    """Set what holds for the whole life of the process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it writes into its pipe alone
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before it could be said
        sys.exit(0)


def _allow(cpu_s: int) -> None:
    """Give the next request its CPU seconds: the kernel ends this process after them."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = math.ceil(time.process_time()) + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _write(answers: IO[bytes], answer: dict[str, Any], data: bytes = b"") -> None:
    text = json.dumps({**answer, "cpu_seconds": time.process_time()}).encode()
    answers.write(HEADER.pack(len(text), len(data)))
    answers.write(text)
    answers.write(data)
    answers.flush()


def _problem(answers: IO[bytes], kind: str, text: str, **more: str) -> None:
    _write(answers, {"problem": {"kind": kind, "text": text, **more}})
