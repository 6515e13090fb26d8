"""Carry the edit of a first frame along the optical flow of the clip: what can be done without a trained model.

What the edit added to the first frame is moved with the pixels that it lies on. So a change of colour, pattern or light
stays on its object; a new shape moves with what was there before, and what comes into view later has no edit. Where a
pixel cannot be followed back to the first frame, the source is left as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.media.flow import backward_warp, dense_flow, gray, pixel_grid
from ffpdata.models.protocols import Edit
from ffpdata.models.settings import BackendSettings, parse_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec

    Frames = NDArray[np.uint8]
    Image = NDArray[np.uint8]
    Plane = NDArray[np.float32]

EDITED = 6.0
"""Difference from the source, in levels of 255, from which a pixel of the first frame counts as edited."""


class FlowPropagatorSettings(BackendSettings):
    """Settings of `FlowPropagator`."""

    lost_px: float = Field(2.0, gt=0)
    """Pixels of a 720-line clip by which a point may miss itself when it is followed back and forth; farther off it
    counts as lost."""
    feather_px: float = Field(3.0, ge=0)
    """Softness of the edge of what is lost, on a 720-line clip."""
    least_carried: float = Field(0.15, ge=0, le=1)
    """Smallest share of the edited pixels that each frame must still show; below it the edit would fade away."""


class FlowPropagator:
    """The embedded propagator."""

    name = "flow_propagator"
    version = 1
    Settings = FlowPropagatorSettings

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)

    def close(self) -> None:
        """Do nothing: no process and no memory is held."""

    def propagate(
        self,
        frames: Frames,
        edited_first_frame: Image,
        *,
        prompt: str = "",  # noqa: ARG002 - the role's interface
        negative: str = "",  # noqa: ARG002
        seed: int = 0,  # noqa: ARG002
    ) -> Edit:
        """Return the clip with the edit moved along.

        Args:
            frames: uint8 (T, H, W, 3).
            edited_first_frame: uint8 (H, W, 3).
            prompt: not used: there is no model to read it.
            negative: likewise.
            seed: likewise.

        Returns:
            uint8 (T, H, W, 3), whose first frame is the edited one. Facts: `carried`, the smallest share of the edited
            pixels that a frame shows, and `carried_mean`.

        Raises:
            Reject: `edit_not_carried` where a frame shows less of the edit than `least_carried`, or there is no edit.
            ValueError: the edited frame is of another size.
        """
        if edited_first_frame.shape != frames.shape[1:]:
            raise ValueError(f"edited first frame {edited_first_frame.shape}, frames of {frames.shape[1:]}: resize it")
        added = edited_first_frame.astype(np.float32) - frames[0]
        edited = (np.abs(added).max(axis=2) >= EDITED).astype(np.float32)
        area = float(edited.sum())
        if not area:
            raise Reject("edit_not_carried", "the edited first frame is the clip's own: there is no edit to carry")
        out = np.empty_like(frames)
        out[0] = edited_first_frame
        shares = []
        height, width = frames.shape[1:3]
        back = np.zeros((height, width, 2), np.float32)  # from frame t to frame 0
        kept = np.ones((height, width), np.float32)  # how surely a pixel of frame t was followed back to frame 0
        before = gray(frames[0])
        for t in range(1, len(frames)):
            now = gray(frames[t])
            step, forth = dense_flow(now, before, fine=True), dense_flow(before, now, fine=True)
            back = step + backward_warp(back, step)
            kept = backward_warp(kept, step) * self._followed(step, forth)
            weight = backward_warp(edited, back) * kept
            shares.append(float(weight.sum()) / area)
            moved = backward_warp(added, back) * kept[..., None]
            out[t] = np.clip(frames[t] + moved + np.float32(0.5), 0, 255).astype(np.uint8)
            before = now
        carried = min(shares, default=1.0)
        facts = {"carried": round(carried, 4), "carried_mean": round(float(np.mean(shares or [1.0])), 4)}
        least = self.settings.least_carried
        if carried < least:
            at = 1 + int(np.argmin(shares))
            raise Reject(
                "edit_not_carried",
                f"frame {at} still shows {carried:.0%} of the edit, the limit is {least:.0%}: its pixels leave the "
                "picture or cannot be followed; a trained propagator draws them anew",
            )
        return Edit(out, facts)

    def _followed(self, step: Plane, forth: Plane) -> Plane:
        """Return per pixel, 0..1, whether flow there and back meets itself, and stays in the picture."""
        height, width = step.shape[:2]
        scale = min(height, width) / 720
        there = pixel_grid(height, width) + step
        inside = (there >= 0).all(axis=2) & (there[..., 0] <= width - 1) & (there[..., 1] <= height - 1)
        missed = np.hypot(*np.moveaxis(step + backward_warp(forth, step), 2, 0))
        good = (inside & (missed <= max(0.5, self.settings.lost_px * scale))).astype(np.float32)
        feather = self.settings.feather_px * scale
        return cv2.GaussianBlur(good, (0, 0), feather) if feather > 0.3 else good
