"""Check an edited first frame before anything is carried on: changed where it should be, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata.core.stage import Reject, Row, Stage, StageSettings
from ffpdata.media import metrics
from ffpdata.media.clip_cache import cached_masks
from ffpdata.media.codec import read_first_frame, read_image
from ffpdata.metrics.limits import Limits, beyond
from ffpdata.stages.first_frame import changed_pixels

if TYPE_CHECKING:
    from ffpdata.models.protocols import Image, Mask

RIM = 6
"""Pixels of a 720-line clip around the region that belong to neither side: an edit's edge is soft."""


class CheckFrameSettings(StageSettings):
    """Limits per task."""

    limits: dict[str, Limits] = {}
    """Task to number to bounds, as in `measure`. Numbers are this stage's columns."""


class CheckFrame(Stage):
    """Write the numbers; a frame outside its task's limits is rejected as `<number>_too_low` or `_too_high`."""

    name, version = "check_frame", 1
    reads = ("source_video", "edited_first_frame", "task", "mask_video", "condition_mask")
    optional = ("mask_video", "condition_mask")
    writes = dict.fromkeys(
        (
            *("frame_changed", "frame_change", "frame_structure", "frame_largest_piece"),
            *("frame_changed_inside", "frame_changed_outside", "frame_psnr_outside"),
        ),
        float,
    )
    Settings = CheckFrameSettings

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the numbers."""
        files = [row.file(name) if row.get(name) else None for name in ("mask_video", "condition_mask")]
        masks = [cached_masks(file)[0] if file else None for file in files]
        own, edited = read_first_frame(row.file("source_video")), read_image(row.file("edited_first_frame"))
        if edited.shape != own.shape:
            raise Reject("frame_size_differs", f"the edited frame is {edited.shape[:2]}, the clip's {own.shape[:2]}")
        columns: dict[str, Any] = {**frame_numbers(own, edited, *masks)}
        if found := beyond(self.settings.limits.get(row["task"], {}), columns):
            raise Reject(*found, columns)
        return columns


def frame_numbers(own: Image, edited: Image, outline: Mask | None, region: Mask | None) -> dict[str, float]:
    """Measure the edit of a frame.

    Args:
        own: uint8 (H, W, 3), as it was.
        edited: uint8 (H, W, 3).
        outline: bool (H, W), the object; None where the edit is of no object.
        region: bool (H, W), what the edit may change; None where that is the whole picture.

    Returns:
        `frame_changed`, the share of the picture that differs visibly (`stages.first_frame`); `frame_change`, the mean
        difference in levels of 255; `frame_structure`, the correlation of edges; `frame_largest_piece`, the share of
        the changed pixels in the largest piece of them. Where there is a region `frame_changed_inside`, the share of
        the outline that differs visibly, `frame_changed_outside`, the share of what lies beyond the region that does,
        and `frame_psnr_outside`, in dB.
    """
    changed = changed_pixels(own, edited)
    found = {
        "frame_changed": float(changed.mean()),
        "frame_change": metrics.mean_change(own[None], edited[None]),
        "frame_structure": metrics.structure(own[None], edited[None]),
        "frame_largest_piece": _largest_piece(changed),
    }
    if region is not None:
        inside = region if outline is None else outline
        rim = max(1, round(RIM * min(own.shape[:2]) / 720))
        beyond_it = ~cv2.dilate(region.astype(np.uint8), np.ones((2 * rim + 1, 2 * rim + 1), np.uint8)).astype(bool)
        found |= {
            "frame_changed_inside": float(changed[inside].mean()) if inside.any() else 0.0,
            "frame_changed_outside": float(changed[beyond_it].mean()) if beyond_it.any() else 0.0,
            "frame_psnr_outside": metrics.psnr(own[None], edited[None], beyond_it[None]),
        }
    return {name: round(value, 5) for name, value in found.items()}


def _largest_piece(changed: Mask) -> float:
    """Return the share of the changed pixels in the largest piece; gaps of a fiftieth of the short side are bridged."""
    if not changed.any():
        return 0.0
    gap = max(3, round(min(changed.shape) / 50) | 1)
    joined = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((gap, gap), np.uint8))
    _, labels = cv2.connectedComponents(joined)
    return float(np.bincount(labels[changed], minlength=2)[1:].max() / changed.sum())
