"""Inputs of a video inpainting model: the clip with its region blanked, and the region in the model's own polarity.

Masks here are bool (T, H, W), True = edit this pixel. The stage `condition` shapes the region per task; the functions
here prepare it for the model and paste the result back. The libraries do none of this: unblanked, the object leaks back
into the edit (VACE issue 140); a grey value in a mask is a half-kept pixel; odd sizes and lengths are rounded silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media import masks as masklib

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Image = NDArray[np.uint8]
    Masks = NDArray[np.bool_]

GREY = 128
"""Level of a pixel that is missing: the middle of the model's range (VACE, vace/annotators/inpainting.py)."""

WHITE = 255
"""Level of the canvas around a reference image of another shape (VACE, vace/models/wan: prepare_source)."""


def check_masks(frames: Frames, masks: Masks) -> None:
    """Check the dtypes and shapes of a clip and its masks.

    Raises:
        TypeError: not uint8 (T, H, W, 3) and bool (T, H, W).
        ValueError: the two differ in T, H or W.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise TypeError(f"frames must be uint8 (T, H, W, 3), found {frames.dtype} {frames.shape}")
    if masks.dtype != np.bool_ or masks.ndim != 3:
        raise TypeError(f"masks must be bool (T, H, W), found {masks.dtype} {masks.shape}: binarise them first")
    if masks.shape != frames.shape[:3]:
        raise ValueError(f"masks {masks.shape} do not fit frames {frames.shape[:3]}")


def blank(frames: Frames, masks: Masks) -> Frames:
    """Return the clip with its masked pixels grey, uint8 (T, H, W, 3), a new array."""
    check_masks(frames, masks)
    out = frames.copy()
    out[masks] = GREY
    return out


def mask_frames(masks: Masks) -> Frames:
    """Return masks as the RGB pictures that the libraries read: uint8 (T, H, W, 3), every value 0 or 255.

    White is generated, black is kept (VACE, UserGuide.md, 3.1).
    """
    if masks.dtype != np.bool_ or masks.ndim != 3:
        raise TypeError(f"masks must be bool (T, H, W), found {masks.dtype} {masks.shape}: binarise them first")
    return np.repeat((masks.view(np.uint8) * 255)[..., None], 3, axis=3)


def depth_levels(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return depth, float (T, H, W) in 0..1 with near = 1, as grey levels, near = white: uint8 (T, H, W)."""
    if depth.ndim != 3:
        raise TypeError(f"depth must be float (T, H, W), found {depth.dtype} {depth.shape}")
    grey = np.empty(depth.shape, np.uint8)
    for values, out in zip(depth, grey, strict=True):
        np.clip(np.rint(values * 255), 0, 255, out=out, casting="unsafe")
    return grey


def depth_frames(depth: NDArray[np.float32]) -> Frames:
    """Return `depth_levels` as the RGB pictures that the libraries read: uint8 (T, H, W, 3)."""
    return np.repeat(depth_levels(depth)[..., None], 3, axis=3)


def on_canvas(image: Image, height: int, width: int) -> Image:
    """Fit an image, whole and undistorted, into the middle of a white canvas of the clip's size.

    Args:
        image: uint8 (h, w, 3) RGB.
        height: of the canvas.
        width: of the canvas.

    Returns:
        uint8 (height, width, 3).
    """
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    scale = min(height / h, width / w)
    size = max(1, min(width, int(w * scale))), max(1, min(height, int(h * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas = np.full((height, width, 3), WHITE, np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def negative_prompt(*parts: str) -> str:
    """Join the parts of a negative prompt in order, without empty parts and repeats."""
    return ", ".join(dict.fromkeys(part.strip(" ,") for part in parts if part.strip(" ,")))


def outside_drift(source: Frames, edited: Frames, masks: Masks) -> float:
    """Return the mean absolute difference of the pixels outside the mask, levels of 255; 0 where all is masked."""
    total, count = 0, 0
    for before, after, mask in zip(source, edited, masks, strict=True):
        total += int(cv2.absdiff(before, after)[~mask].sum(dtype=np.int64))
        count += 3 * int((~mask).sum())
    return total / count if count else 0.0


def paste_back(source: Frames, edited: Frames, masks: Masks, feather_px: int) -> Frames:
    """Keep the edit on the mask and the source's own pixels beyond it; between them they blend over `feather_px`.

    Args:
        source: uint8 (T, H, W, 3).
        edited: uint8 (T, H, W, 3).
        masks: bool (T, H, W), True = edited.
        feather_px: width of the blend outside the mask, in pixels, >= 0.

    Returns:
        uint8 (T, H, W, 3): `edited` exactly on the mask, `source` exactly from `feather_px` + 1 pixels off it.
    """
    check_masks(source, masks)
    out = source.copy()
    for t, mask in enumerate(masks):
        alpha = masklib.feather(mask[None], feather_px)[0]
        y, x = np.nonzero(alpha)
        if len(y):
            share = alpha[y, x, None]
            out[t, y, x] = np.rint(edited[t, y, x] * share + source[t, y, x] * (1 - share)).astype(np.uint8)
    return out
