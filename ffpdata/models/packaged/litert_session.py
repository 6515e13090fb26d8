"""A packaged network in LiteRT (TensorFlow Lite's interpreter), for graphs that onnxruntime does not read."""

from __future__ import annotations

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

        found = Interpreter(model_path=str(path), num_threads=threads)
        found.allocate_tensors()
    except (ImportError, OSError, ValueError, RuntimeError) as err:
        raise FatalError(f"LiteRT cannot load the network {name}: {err}") from err
    return found
