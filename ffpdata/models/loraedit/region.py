"""The region of an edit, loose: pixel-exact masks force new things into the outline of the old ones.

Masks are bool (T, H, W), True = the edit. A region is what is drawn anew; elsewhere the clip is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from ffpdata.media import masks as masklib

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Masks = NDArray[np.bool_]
    Image = NDArray[np.uint8]

Looseness = Literal["box", "noise", "none"]

CELL = 8
"""Side of a clip's pixels in one latent."""

LEAST_PX = 50
"""Smallest area of a part of a mask that counts, pixels (the authors' code): smaller ones are specks."""

BLOCK = 7
"""Side of the blocks of a noised mask, pixels: the ablation of masks has "7x7" and does not say how they are drawn."""

CHANGED, BLUR = 16.0, 5
"""Levels of 255 by which an edited pixel differs, on averages over so many pixels each way: as in the stage
`first_frame`, what another coder or scaler makes of a frame stays below."""


def difference(first_frame: Image, edited: Image) -> Masks:
    """Return where a frame was edited, bool (1, H, W).

    Args:
        first_frame: uint8 (H, W, 3).
        edited: the same frame after the edit.
    """
    levels = cv2.blur(first_frame.astype(np.float32) - edited, (BLUR, BLUR))
    changed: Masks = (np.abs(levels).max(axis=2) >= CHANGED)[None]
    return changed


def loosen(masks: Masks, how: Looseness, *, margin: float = 0.1, seed: int = 0) -> Masks:
    """Return a loose region around masks, on the grid of the latents.

    Args:
        masks: bool (T, H, W); H and W are multiples of 8.
        how: `box`, the boxes of a mask's parts of at least 50 pixels, grown; `noise`, the mask with those 7 x 7 blocks
            along its outline that chance takes, anew in every frame; `none`, the mask itself.
        margin: of a box, as a fraction of its sides (0.1 in the authors' code).
        seed: of the chance.

    Returns:
        bool (T, H, W) that holds every mask pixel of a part of at least 50 pixels, or of all with another `how`: whole
        cells of 8 x 8, so that the mask at the latents' size and the blanked clip agree.
    """
    found = {"box": lambda: _boxes(masks, margin), "noise": lambda: _noised(masks, seed), "none": lambda: masks}[how]()
    return spread(cells(found))


def of_clip(region: Masks) -> Masks:
    """Return a clip's region as the model is shown it: nothing of the first frame is drawn anew (section 3.3.1)."""
    shown = region.copy()
    shown[0] = False
    return shown


def cells(region: Masks) -> Masks:
    """Return which latents a region touches, bool (T, H / 8, W / 8)."""
    frames, height, width = region.shape
    if height % CELL or width % CELL:
        raise ValueError(f"a region of {width} x {height}: both must be multiples of {CELL}")
    touched: Masks = region.reshape(frames, height // CELL, CELL, width // CELL, CELL).any(axis=(2, 4))
    return touched


def spread(of_cells: Masks) -> Masks:
    """Return the pixels of some latents, bool (T, 8h, 8w)."""
    return of_cells.repeat(CELL, axis=1).repeat(CELL, axis=2)


def _boxes(masks: Masks, margin: float) -> Masks:
    out = np.zeros_like(masks)
    for frame, mask in enumerate(masks):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        for part in range(1, count):
            if stats[part, cv2.CC_STAT_AREA] >= LEAST_PX:
                out[frame] |= masklib.box((labels == part)[None], margin)[0]
    return out


def _noised(masks: Masks, seed: int) -> Masks:
    """Add blocks to a mask: of those within one block of it, each with probability one half."""
    chance = np.random.default_rng(seed)
    frames, height, width = masks.shape
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    around = masklib.dilate(masks, BLOCK)
    taken = chance.random((frames, rows, columns)) < 0.5
    blocks = taken.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)[:, :height, :width]
    noised: Masks = masks | (around & blocks)
    return noised
