"""A packaged network in onnxruntime: on the CPU, the same bytes out for the same bytes in, and quiet while it waits."""

from __future__ import annotations

from typing import Any

from ffpdata.core.errors import FatalError
from ffpdata.models.packaged.location import model_file

_FIXED = {
    "centerface": (
        bytes.fromhex("0a02080a0a0208030a0208200a020820"),  # 10 x 3 x 32 x 32
        bytes.fromhex("0a0212000a0208030a0212000a021200"),  # ? x 3 x ? x ?
    ),
}
"""Input shapes that a graph declares, though it is convolutional, and the same with dimensions left open; protobuf."""


def session(name: str, threads: int = 1) -> Any:
    """Open a packaged network as an `onnxruntime.InferenceSession`.

    Outputs do not depend on `threads`. Memory of a run is returned after it: inputs may have many sizes.

    Args:
        name: in the catalogue.
        threads: of one run; 1 where several workers share the machine.

    Raises:
        MissingModelError: the network is not installed, or damaged.
        FatalError: onnxruntime is missing or cannot load it.
    """
    graph = model_file(name).read_bytes()
    if name in _FIXED:
        graph = graph.replace(*_FIXED[name])
    try:
        import onnxruntime
    except ImportError as err:
        raise FatalError(f"the network {name} needs onnxruntime: pip install onnxruntime") from err
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would burn the other core
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as err:
        raise FatalError(f"onnxruntime {onnxruntime.__version__} cannot load the network {name}: {err}") from err
