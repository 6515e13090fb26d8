"""Carry the edit of a first frame along the optical flow of the clip: what can be done without a trained model.

What the edit added to the first frame is moved with the pixels that it lies on. So a change of colour, pattern or light
stays on its object; a new shape moves with what was there before. A pixel that cannot be followed back to the first
frame, as along the edges of what moves, gets what was added to followed pixels around it of its own colour in the
source; where there are none, the source is left as it is. So what comes into view later has no edit, unless it looks
like what has one.
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


SAME, OTHER = 20.0, 45.0
"""Mean differences of the channels, in levels of 255, up to which a pixel has the colour that it was followed back to,
and from which it has another: light changes."""
RINGS = (1, 2, 3, 5, 8, 12, 18, 26)
"""Distances, in pixels of a 360-line clip, at which a lost pixel looks for followed ones."""
DIRECTIONS = 12
"""In how many directions it looks."""
ALIKE = 24.0
"""Distance of two colours, in levels of 255, at which the weight of a followed pixel falls to 1/e."""
ENOUGH = 0.6
"""Sum of the weights from which a lost pixel is filled."""
PASSES = 3
"""How often lost pixels are filled from those that are filled already."""
LOCAL = 0.5
"""Share of the picture up to which an edit is filled: the strokes of a style are more than a colour."""


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
    version = 2
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
            pixels that were followed to a frame, `carried_mean`, and `filled`, the largest share of lost pixels, of
            the number of edited ones, that got an edit from others of their colour.

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
        shares, fills = [], list[float]()
        height, width = frames.shape[1:3]
        back = np.zeros((height, width, 2), np.float32)  # from frame t to frame 0
        kept = np.ones((height, width), np.float32)  # how surely a pixel of frame t was followed back to frame 0
        before, first = gray(frames[0]), frames[0].astype(np.float32)
        for t in range(1, len(frames)):
            now = gray(frames[t])
            step, forth = dense_flow(now, before, fine=True), dense_flow(before, now, fine=True)
            back = step + backward_warp(back, step)
            kept = backward_warp(kept, step) * self._followed(step, forth)
            sure = kept * _same_colour(frames[t], backward_warp(first, back))
            weight = backward_warp(edited, back) * sure
            shares.append(float(weight.sum()) / area)
            moved = backward_warp(added, back) * sure[..., None]
            if area <= LOCAL * height * width:
                fills.append(_filled(moved, weight, sure, frames[t]) / area)
            out[t] = np.clip(frames[t] + moved + np.float32(0.5), 0, 255).astype(np.uint8)
            before = now
        carried = min(shares, default=1.0)
        facts = {"carried": round(carried, 4), "carried_mean": round(float(np.mean(shares or [1.0])), 4)}
        facts["filled"] = round(max(fills, default=0.0), 4)
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


def _same_colour(frame: Image, followed: Plane) -> Plane:
    """Return per pixel, 0..1, whether a frame shows the colour that it was followed back to.

    Flow that clings to the other side of an edge meets itself, too.
    """
    away = np.abs(cv2.blur(frame.astype(np.float32) - followed, (3, 3))).mean(axis=2)
    return np.clip((OTHER - away) / (OTHER - SAME), 0, 1).astype(np.float32)


def _filled(moved: Plane, weight: Plane, kept: Plane, frame: Image) -> float:
    """Give lost pixels, in place, what was added to followed ones around them that have their colour.

    Args:
        moved: float32 (H, W, 3), what is added to each pixel.
        weight: float32 (H, W), how much of that is of edited pixels, 0..1.
        kept: float32 (H, W), how surely each was followed, 0..1.
        frame: uint8 (H, W, 3), the source.

    Returns:
        How many pixels got an edit.
    """
    before = float(weight.sum())
    kept, weight = kept.copy(), weight.copy()
    for _ in range(PASSES):
        _fill_once(moved, weight, kept, frame)
    return float(weight.sum()) - before


def _fill_once(moved: Plane, weight: Plane, kept: Plane, frame: Image) -> None:
    """Fill the lost pixels that see enough followed ones; all but the frame is changed in place."""
    height, width = kept.shape
    scale = min(height, width) / 360
    reach = round(RINGS[-1] * scale)
    near = cv2.dilate((weight > 0.3).astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    rows, columns = np.nonzero((kept < 0.9) & (near > 0))
    own = frame[rows, columns].astype(np.float32)
    sums = np.zeros((len(rows), 5), np.float32)  # what is added, how edited, and the weights
    for ring in RINGS:
        for angle in np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS):
            y = rows + round(ring * scale * np.sin(angle))
            x = columns + round(ring * scale * np.cos(angle))
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
            sure = np.where(inside, kept[y, x], np.float32(0))
            away = ((frame[y, x] - own) ** 2).sum(axis=1)
            share = sure * np.exp(-away / np.float32(ALIKE**2)) / np.float32(1 + ring / RINGS[2])
            # What is added to a followed pixel has its sureness in it already.
            sums[:, :3] += share[:, None] * moved[y, x]
            sums[:, 3] += share * weight[y, x]
            sums[:, 4] += share * sure
    found = sums[:, 4] >= ENOUGH
    at = rows[found], columns[found]
    mean = sums[found, :4] / sums[found, 4:]
    lost = 1 - kept[at]
    moved[at] += lost[:, None] * mean[:, :3]
    weight[at] += lost * mean[:, 3]
    kept[at] = 1
