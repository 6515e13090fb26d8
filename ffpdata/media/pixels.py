"""Copy decoded frames into arrays: exact luma, or RGB without a colour shift."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

AV_BT709 = 1
"""libav's number of BT.709, as matrix, primaries and transfer."""

_LIMITED, _FULL = 1, 2
"""libav's numbers of the ranges."""

_LUMA, _CHROMA = 255 / 219, 255 / 224
_FROM_709 = np.array([[_LUMA, 0, 1.5748], [_LUMA, -0.187324, -0.468124], [_LUMA, 1.8556, 0]]) * [1, _CHROMA, _CHROMA]
_YUV_TO_RGB = np.c_[_FROM_709, -_FROM_709 @ [16, 128, 128]]
"""BT.709 limited range to RGB, 3x4 for `cv2.transform`. OpenCV's own conversions know BT.601 only, and swscale without
`full_chroma_int` is 1 to 2 levels too dark."""


class Converter:
    """Copies the decoded frames of one clip into an array. Its buffers are made once, because new memory costs time.

    Attributes:
        found: frames that were decoded so far.
    """

    def __init__(self, width: int, height: int) -> None:
        self.found = 0
        self._size = width, height
        self._tall = np.empty((height, width // 2), np.uint8)
        self._between = np.empty_like(self._tall)
        self._planes = [np.empty((height, width), np.uint8) for _ in range(2)]
        self._yuv = np.empty((height, width, 3), np.uint8)

    def copy(self, frames: Iterable[Any], out: NDArray[np.uint8], limit: int | None = None) -> None:
        """Copy frames (`av.VideoFrame`); those for which `out` has no room are counted and not copied.

        Args:
            frames: decoded as they are asked for.
            out: where to: uint8 (T, H, W, 3) for RGB, or (T, H, W) for the untouched luma plane.
            limit: stop after so many.

        Raises:
            ValueError: a frame has another size.
        """
        for frame in frames:
            if self.found < len(out):
                self._copy(frame, out[self.found])
            self.found += 1
            if self.found == limit:
                return

    def _copy(self, frame: Any, out: NDArray[np.uint8]) -> None:
        width, height = self._size
        if (frame.width, frame.height) != self._size:
            raise ValueError(f"frame of {frame.width}x{frame.height} in a clip of {width}x{height}")
        if out.ndim == 2:
            out[:] = _plane(frame, 0)
        elif _is_bt709_420(frame):
            for index, plane in enumerate(self._planes, start=1):
                self._upsample(_plane(frame, index), plane)
            cv2.merge([_plane(frame, 0), *self._planes], self._yuv)
            cv2.transform(self._yuv, _YUV_TO_RGB, out)
        else:
            out[:] = _reformat_to_rgb(frame)

    def _upsample(self, chroma: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        """Double a chroma plane linearly. H.264 puts chroma samples on even columns and between two rows."""
        tall, between = self._tall, self._between
        cv2.resize(chroma, tall.shape[::-1], tall, interpolation=cv2.INTER_LINEAR)
        cv2.addWeighted(tall[:, :-1], 0.5, tall[:, 1:], 0.5, 0, between[:, :-1])
        between[:, -1] = tall[:, -1]
        cv2.merge([tall, between], out.reshape(*tall.shape, 2))


def _is_bt709_420(frame: Any) -> bool:
    even = frame.width % 2 == frame.height % 2 == 0
    return bool(even and frame.format.name == "yuv420p" and frame.colorspace == AV_BT709 and frame.color_range != _FULL)


def _plane(frame: Any, index: int) -> NDArray[np.uint8]:
    plane = frame.planes[index]
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _reformat_to_rgb(frame: Any) -> NDArray[np.uint8]:
    """Convert any other frame, uint8 (H, W, 3): slower, with the frame's own matrix and range."""
    from av.video.reformatter import Interpolation

    flags = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    full = "yuvj" in frame.format.name or frame.color_range == _FULL
    rgb = frame.reformat(
        format="rgb24",
        interpolation=flags,
        src_color_range=_FULL if full else _LIMITED,
        dst_color_range=_FULL,
        threads=1,
    )
    converted: NDArray[np.uint8] = rgb.to_ndarray()
    return converted
