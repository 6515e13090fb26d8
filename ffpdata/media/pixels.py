"""Pixels of decoded frames into arrays: exact luma, or RGB without a colour shift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

AV_BT709 = 1
"""libav's number of BT.709, as matrix, primaries and transfer."""

_LUMA, _CHROMA = 255 / 219, 255 / 224
_FROM_709 = np.array([[_LUMA, 0, 1.5748], [_LUMA, -0.187324, -0.468124], [_LUMA, 1.8556, 0]]) * [1, _CHROMA, _CHROMA]
_YUV_TO_RGB = np.c_[_FROM_709, -_FROM_709 @ [16, 128, 128]]
"""BT.709 limited range to RGB, 3x4 for `cv2.transform`. OpenCV's own conversions know BT.601 only, and swscale without
`full_chroma_int` is 1 to 2 levels too dark."""


def copy(frame: Any, out: NDArray[np.uint8]) -> None:
    """Copy a decoded frame (`av.VideoFrame`).

    Args:
        frame: the frame.
        out: where to: uint8 (H, W, 3) for RGB, or (H, W) for the untouched luma plane.

    Raises:
        ValueError: the frame has another size.
    """
    height, width = out.shape[:2]
    if (frame.height, frame.width) != (height, width):
        raise ValueError(f"frame of {frame.width}x{frame.height} in a clip of {width}x{height}")
    if out.ndim == 2:
        out[:] = _plane(frame, 0)
    elif frame.format.name == "yuv420p" and int(frame.colorspace) == AV_BT709 and width % 2 == height % 2 == 0:
        chroma = (_upsample(_plane(frame, i), width, height) for i in (1, 2))
        cv2.transform(cv2.merge([_plane(frame, 0), *chroma]), _YUV_TO_RGB, out)
    else:
        out[:] = _general_rgb(frame)


def _plane(frame: Any, index: int) -> NDArray[np.uint8]:
    plane = frame.planes[index]
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _upsample(chroma: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Double a chroma plane linearly. H.264 puts chroma samples on even columns and between two rows."""
    tall = cv2.resize(chroma, (width // 2, height), interpolation=cv2.INTER_LINEAR)
    right = np.concatenate([tall[:, 1:], tall[:, -1:]], axis=1)
    out = np.empty((height, width), np.uint8)
    out[:, ::2] = tall
    out[:, 1::2] = cv2.addWeighted(tall, 0.5, right, 0.5, 0)
    return out


def _general_rgb(frame: Any) -> NDArray[np.uint8]:
    """Convert a frame that is not our usual one: slower, with the frame's own matrix and range."""
    from av.video.reformatter import ColorRange, Interpolation

    flags = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    full = "yuvj" in frame.format.name or int(frame.color_range) == int(ColorRange.JPEG)
    rgb = frame.reformat(
        format="rgb24",
        interpolation=flags,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    converted: NDArray[np.uint8] = rgb.to_ndarray()
    return converted
