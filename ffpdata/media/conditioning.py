"""What a video inpainting model is shown: the clip with its region blanked, and the region in the model's own polarity.

Masks here are bool (T, H, W), True = edit this pixel. Their shape per task is the stage `condition`'s; this is the last
step before the model, and the first after it. Libraries do none of it: unblanked, the object leaks back into the edit
(VACE issue 140); a grey value in a mask is a half-kept pixel; odd sizes and lengths are rounded in silence.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata.core.errors import ConfigError
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

SIZE_STEP = 16
"""Sides of a clip are multiples of it: the VAE halves three times, the transformer takes patches of 2."""

FRAME_STEP = 4
"""A clip has 4n+1 frames: the VAE encodes the first alone and then four at a time."""

MAX_FRAMES = 81
"""Longest clip that Wan 2.1 was trained on; quality falls beyond it (VACE issue 99)."""


class Polarity(Enum):
    """What a white pixel of a model's mask means."""

    WHITE_EDITS = "white_edits"
    """VACE (UserGuide.md, 3.1): white is generated, black is kept."""
    WHITE_KEEPS = "white_keeps"
    """Wan image-to-video and LoRA-Edit: 1 is a pixel that is given."""


def check_clip(frames: int, height: int, width: int, *, model: str = "the model", longest: int = MAX_FRAMES) -> None:
    """Refuse a clip that the model would round, pad or do badly; nothing is resized here or later.

    Raises:
        ConfigError: every clip of a run has one size, so a wrong one is a wrong setting. It names the nearest that fit.
    """
    if height % SIZE_STEP or width % SIZE_STEP or not height or not width:
        near = " x ".join(str(max(SIZE_STEP, round(side / SIZE_STEP) * SIZE_STEP)) for side in (width, height))
        raise ConfigError(f"{model} needs sides that are multiples of {SIZE_STEP}, not {width} x {height}: try {near}")
    if frames < 1 or frames % FRAME_STEP != 1:
        low = max(1, (frames - 1) // FRAME_STEP * FRAME_STEP + 1)
        near = f"{low} or {low + FRAME_STEP}" if frames > 0 else str(low)
        raise ConfigError(f"{model} needs 4n+1 frames, not {frames}: set clip.frames to {near}")
    if frames > longest:
        raise ConfigError(f"{model} takes at most {longest} frames, not {frames}: set clip.frames to {longest} or less")


def check_masks(frames: Frames, masks: Masks) -> None:
    """Refuse what is no clip with its masks.

    Raises:
        TypeError: another dtype or number of axes than uint8 (T, H, W, 3) and bool (T, H, W).
        ValueError: the two differ in T, H or W.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise TypeError(f"frames must be uint8 (T, H, W, 3), found {frames.dtype} {frames.shape}")
    if masks.dtype != np.bool_ or masks.ndim != 3:
        raise TypeError(f"masks must be bool (T, H, W), found {masks.dtype} {masks.shape}: binarise them first")
    if masks.shape != frames.shape[:3]:
        raise ValueError(f"masks {masks.shape} do not fit frames {frames.shape[:3]}")


def binarise(values: NDArray[Any], threshold: float = 0.5) -> Masks:
    """Turn soft masks into hard ones.

    Args:
        values: uint8 0..255, float 0..1 or bool, any shape.
        threshold: in 0..1; what lies above it is True.

    Returns:
        bool, of the same shape.
    """
    if values.dtype == np.bool_:
        return values
    level = threshold * 255 if values.dtype == np.uint8 else threshold
    hard: Masks = values > level
    return hard


def blank(frames: Frames, masks: Masks, level: int = GREY) -> Frames:
    """Return the clip with its masked pixels at `level`, uint8 (T, H, W, 3), a new array."""
    check_masks(frames, masks)
    out = frames.copy()
    out[masks] = level
    return out


def mask_frames(masks: Masks, polarity: Polarity = Polarity.WHITE_EDITS) -> Frames:
    """Return masks as the RGB pictures that the libraries read: uint8 (T, H, W, 3), every value 0 or 255."""
    if masks.dtype != np.bool_ or masks.ndim != 3:
        raise TypeError(f"masks must be bool (T, H, W), found {masks.dtype} {masks.shape}: binarise them first")
    white = masks if polarity is Polarity.WHITE_EDITS else ~masks
    return np.repeat((white.view(np.uint8) * 255)[..., None], 3, axis=3)


def depth_frames(depth: NDArray[np.float32]) -> Frames:
    """Return depth, float (T, H, W) in 0..1 with near = 1, as grey pictures, near = white: uint8 (T, H, W, 3)."""
    if depth.ndim != 3:
        raise TypeError(f"depth must be float (T, H, W), found {depth.dtype} {depth.shape}")
    grey = np.empty(depth.shape, np.uint8)
    for values, out in zip(depth, grey, strict=True):
        np.clip(np.rint(values * 255), 0, 255, out=out, casting="unsafe")
    return np.repeat(grey[..., None], 3, axis=3)


def on_canvas(image: Image, height: int, width: int, level: int = WHITE) -> Image:
    """Fit an image, whole and undistorted, into the middle of a canvas of the clip's size.

    Args:
        image: uint8 (h, w, 3) RGB.
        height: of the canvas.
        width: of the canvas.
        level: of what the image leaves free.

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
    canvas = np.full((height, width, 3), level, np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def negative_prompt(*parts: str) -> str:
    """Join what must not appear, the object's name first where there is one; empty parts and repeats fall out."""
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
