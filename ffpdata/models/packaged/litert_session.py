"""A packaged network in LiteRT (TensorFlow Lite's interpreter), for graphs that onnxruntime does not read."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ffpdata.core.errors import FatalError
from ffpdata.models.packaged.location import model_file


def interpreter(name: str, threads: int = 1) -> Any:
    """Open a packaged network as an `ai_edge_litert.interpreter.Interpreter` whose tensors are allocated.

    Args:
        name: in the catalogue.
        threads: of one run.

    Raises:
        MissingModelError: the network or LiteRT is not installed, or the file is damaged.
        FatalError: LiteRT cannot load it.
    """
    path = model_file(name)
    try:
        from ai_edge_litert.interpreter import Interpreter

        with without_notes():
            found = Interpreter(model_path=str(path), num_threads=threads)
            found.allocate_tensors()
    except (ImportError, OSError, ValueError, RuntimeError) as err:
        raise FatalError(f"LiteRT cannot load the network {name}: {err}") from err
    return found


@contextmanager
def without_notes() -> Iterator[None]:
    """Leave out what LiteRT's C++ notes on stderr, `INFO: Created ... delegate`; other lines appear at the end."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            if rest := b"".join(line for line in said if not line.startswith(b"INFO: ")):
                os.write(2, rest)
