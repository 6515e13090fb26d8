"""Removal without a network: the background behind the mask is copied from frames that show it.

All frames are aligned to one by the camera's homographies. There one clean plate is computed, a robust mean over time,
and warped back into every frame. As there is one plate, the fill does not flicker. Pixels that no frame shows are
inpainted on the plate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.media import flow
from ffpdata.media import masks as masklib
from ffpdata.models.classical.clean_plate import Plate, clean_plate, max_channel, plate_box
from ffpdata.models.protocols import Edit
from ffpdata.models.settings import BackendSettings, parse_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames, Image, Masks


_BAND = 24
"""Width of the ring around the mask, in pixels of a 720p frame, in which the fill is compared with the frame."""


_CONFLICT = 30
"""Difference in levels of 255 from which a pixel next to the mask does not show the plate's background."""

_CONFLICT_SHARE = 0.03
"""Share of such pixels from which a frame gets a plate of its own time."""

_SHADE = (0.4, 0.92)
"""Range of the brightness of a shaded pixel, of that of the background: a fifth darker is plain to see."""

_SHADE_FROM = 44
"""Levels of 255 from which a background is light enough to see a shadow on."""

_SHADE_TINT = 0.15
"""Largest difference between the channels of a shadow's darkening: a larger one is another thing."""

_FADE = 6
"""Frames over which one plate is faded into another."""

_RUN = 8
"""Frames that share a plate of their own time."""

_REACH = 12
"""Frames around a conflict that get a plate of their own time as well: the mask may hide its cause."""


class TemporalFillSettings(BackendSettings):
    """Settings of `TemporalFill`. Lengths are pixels of a 720p frame and scale with the clip."""

    grow_px: int = Field(3, ge=0)
    """Dilation of the mask: soft edges and motion blur extend beyond an object's outline."""
    feather_px: int = Field(5, ge=0)
    """Width of the seam in which fill and frame are blended."""
    max_unrevealed: float = Field(0.15, ge=0, le=1)
    """Largest fraction of the mask that no frame shows; above it, `unrevealed` is rejected."""
    max_warp_error: float = Field(6.0, gt=0)
    """Largest difference between fill and frame around the mask, levels of 255; above it, `misaligned` is rejected."""
    max_plate_area: float = Field(6.0, gt=1)
    """Largest plate in frame areas: beyond it the frames share no background (`camera_unstable`)."""
    min_inliers: float = Field(0.25, ge=0, le=1)
    """Smallest mean fraction of background points that follow one homography (`camera_unstable`)."""


class TemporalFill:
    """The embedded remover: an `Inpainter` that needs no prompt.

    Facts of an edit: `unrevealed` (fraction of the mask that no frame shows and that is inpainted), `unrevealed_peak`
    (the largest such fraction of a frame: ten bad frames are a small part of a clip), `warp_error` (mean difference
    between fill and frame in a ring around the mask, levels of 255), `camera_inliers` (mean fraction of background
    points that follow the camera's homography), `camera_still` (1 or 0), `shade_left` (mean part of that ring in which
    the frame is darker than the background in all colours alike: a shadow that reaches out of the mask and stays).
    """

    name = "temporal_fill"
    version: int = 3
    tasks = ("removal",)
    """Writing that was laid over a clip is none: the embedded segmenter follows what moves in the scene."""
    Settings = TemporalFillSettings

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)

    def close(self) -> None:
        """Do nothing: no process and no memory is held."""

    def edit(
        self,
        frames: Frames,
        masks: Masks,
        *,
        prompt: str = "",  # noqa: ARG002
        negative: str = "",  # noqa: ARG002
        reference: Image | None = None,  # noqa: ARG002
        seed: int = 0,  # noqa: ARG002
    ) -> Edit:
        """Fill the masked pixels of every frame with the background behind them.

        Args:
            frames: uint8 (T, H, W, 3) RGB.
            masks: bool (T, H, W), True = fill.
            prompt: not used.
            negative: not used.
            reference: not used.
            seed: not used.

        Raises:
            Reject: `mask_empty`, `camera_unstable`, `unrevealed` or `misaligned`, with value and limit.
        """
        if not masks.any():
            raise Reject("mask_empty", "no frame has a masked pixel, nothing can be removed")
        unit = min(frames.shape[1:3]) / 720
        hidden = masklib.dilate(masks, max(1, round(self.settings.grow_px * unit)))
        path = flow.camera_path(frames, hidden)
        facts = {"camera_inliers": float(path.inliers.mean()), "camera_still": float(path.still)}
        if facts["camera_inliers"] < self.settings.min_inliers:
            detail = (
                f"{facts['camera_inliers']:.2f} of the points follow the camera, at least {self.settings.min_inliers}"
            )
            raise Reject("camera_unstable", detail, dict(facts))
        band = max(4, round(_BAND * unit))
        box = plate_box(hidden, path.to_reference, band + 4)
        swept = (box[2] - box[0]) * (box[3] - box[1]) / masks[0].size
        if swept > self.settings.max_plate_area:
            detail = f"the mask sweeps {swept:.1f} frame areas, at most {self.settings.max_plate_area}"
            raise Reject("camera_unstable", detail, dict(facts))
        plate = self._inpaint_holes(clean_plate(frames, hidden, path, box, band))
        fills = _PlateFills(frames, hidden, plate, band)
        for run in fills.conflicts():
            fills.add(run, self._inpaint_holes(clean_plate(frames, hidden, path, box, band, run=run)))
        soft = max(1, round(self.settings.feather_px * unit))
        out, fill_facts = _compose(frames, hidden, fills, soft)
        facts |= fill_facts
        for name, reason in (("unrevealed", "unrevealed"), ("warp_error", "misaligned")):
            limit = getattr(self.settings, f"max_{name}")
            if facts[name] > limit:
                raise Reject(reason, f"{name} is {facts[name]:.3f}, at most {limit}", dict(facts))
        return Edit(out, facts)

    @staticmethod
    def _inpaint_holes(plate: Plate) -> Plate:
        holes = plate.needed & ~plate.revealed
        if holes.any():
            plate.image = _inpaint(plate.image, holes, plate.revealed)
        return plate


@dataclass
class _Window:
    """The edited part of a frame.

    Attributes:
        crop: rows and columns of the frame.
        frame: uint8 (h, w, 3), the frame's pixels.
        mask: bool (h, w), pixels to fill.
        fill: uint8 (h, w, 3), the plate in this window.
        known: bool (h, w), where a frame reveals the fill.
        guessed: bool (h, w), where the fill is inpainted.
    """

    crop: tuple[slice, slice]
    frame: Image
    mask: NDArray[np.bool_]
    fill: Image
    known: NDArray[np.bool_]
    guessed: NDArray[np.bool_]

    @property
    def ring(self) -> NDArray[np.bool_]:
        """Pixels on which fill and frame can be compared, bool (h, w)."""
        return self.known & ~self.mask

    @property
    def difference(self) -> NDArray[np.int16]:
        """Frame minus fill, int16 (h, w, 3)."""
        return self.frame.astype(np.int16) - self.fill

    def shade(self) -> float:
        """Return the part of the ring that is in shadow: darker than the background in all colours alike, 0..1.

        It is looked at in a quarter of the size, where grain and texture that is a pixel off are gone, and against
        the ring as a whole, so that a darker exposure is no shadow.
        """
        size = max(1, self.mask.shape[1] // 4), max(1, self.mask.shape[0] // 4)
        frame, fill = (
            cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32) + 4
            for image in (self.frame, self.fill)
        )
        ring = cv2.resize(self.ring.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
        lit = ring & (max_channel(fill) > _SHADE_FROM)
        if not lit.any():
            return 0.0
        ratio = frame / fill
        ratio /= np.median(ratio[lit])
        high, low = max_channel(ratio), -max_channel(-ratio)
        dark = lit & (high < _SHADE[1]) & (low > _SHADE[0]) & (high - low < _SHADE_TINT)
        return float(dark.sum() / ring.sum())


class _PlateFills:
    """Fills of all frames: from the plate of the whole clip, or of a frame's own time where that plate does not fit."""

    def __init__(self, frames: Frames, hidden: Masks, plate: Plate, band: int) -> None:
        self.frames, self.hidden, self.plate, self.band = frames, hidden, plate, band
        self.boxes = masklib.bounding_boxes(hidden).tolist()
        self.nearer: list[tuple[range, Plate]] = []

    def conflicts(self) -> list[range]:
        """Return runs near frames that differ from the plate around the mask, because another object came or went."""
        odd = []
        for t, (x0, _, x1, _) in enumerate(self.boxes):
            if x1 > x0:
                window = self.window(t)
                ring = window.ring
                far = np.abs(window.difference[ring]).max(axis=1) > _CONFLICT if ring.any() else np.zeros(1)
                if far.mean() > _CONFLICT_SHARE:
                    odd.append(t)
        count = len(self.boxes)
        runs = [range(start, min(start + _RUN, count)) for start in range(0, count, _RUN)]
        return [run for run in runs if any(run[0] - _REACH <= t <= run[-1] + _REACH for t in odd)]

    def add(self, run: range, plate: Plate) -> None:
        """Use `plate` for the frames of `run`, faded in and out over its neighbours."""
        self.nearer.append((run, plate))

    def window(self, t: int) -> _Window:
        """Return the window around the mask of frame `t`, with its fill."""
        height, width = self.hidden.shape[1:]
        x0, y0, x1, y1 = self.boxes[t]
        left, top = max(0, x0 - self.band), max(0, y0 - self.band)
        crop = slice(top, min(height, y1 + self.band)), slice(left, min(width, x1 + self.band))
        mask = self.hidden[t][crop]
        size = mask.shape[1], mask.shape[0]
        fill, known, guessed = self.plate.view(t, left, top, size)
        for run, plate in self.nearer:
            weight = 1 - max(run[0] - t, t - run[-1], 0) / _FADE
            if weight > 0:
                other, revealed, _ = plate.view(t, left, top, size)
                use = weight * (revealed & known)[..., None].astype(np.float32)
                fill = np.rint(fill * (1 - use) + other * use).astype(np.uint8)
        return _Window(crop, self.frames[t][crop], mask, fill, known, guessed)


def _compose(frames: Frames, hidden: Masks, fills: _PlateFills, soft: int) -> tuple[Frames, dict[str, float]]:
    """Blend the fill into every frame; return the clip and the facts of `edit` about the fill."""
    out = frames.copy()
    guessed_total, masked_total, peak = 0, 0, 0.0
    errors: list[float] = []
    shades: list[float] = []
    for t in np.flatnonzero(hidden.any(axis=(1, 2))).tolist():
        window = fills.window(t)
        ring, difference = window.ring, window.difference
        guessed, masked = int((window.guessed & window.mask).sum()), int(window.mask.sum())
        guessed_total, masked_total, peak = guessed_total + guessed, masked_total + masked, max(peak, guessed / masked)
        if ring.any():
            errors.append(float(np.abs(difference[ring]).mean()))
            shades.append(window.shade())
        fitted = np.clip(window.fill + _membrane(difference, ring, fills.band), 0, 255)
        alpha = np.clip(1 - (_distance(window.mask) - 1) / soft, 0, 1)[..., None]
        out[t][window.crop] = np.rint(fitted * alpha + window.frame * (1 - alpha)).astype(np.uint8)
    error = float(np.mean(errors)) if errors else 0.0
    return out, {
        "unrevealed": guessed_total / max(1, masked_total),
        "unrevealed_peak": peak,
        "warp_error": error,
        "shade_left": round(float(np.mean(shades)), 5) if shades else 0.0,
    }


def _inpaint(image: Image, holes: NDArray[np.bool_], revealed: NDArray[np.bool_]) -> Image:
    """Inpaint the holes of a plate by Telea's method, at a quarter of the size where they are large."""
    x, y, w, h = cv2.boundingRect(holes.view(np.uint8))
    pad = 24
    part = slice(max(0, y - pad), y + h + pad), slice(max(0, x - pad), x + w + pad)
    crop, missing = np.ascontiguousarray(image[part]), (~revealed[part]).astype(np.uint8)
    scale = 4 if missing.sum() > 4000 else 1
    size = max(1, crop.shape[1] // scale), max(1, crop.shape[0] // scale)
    weight = cv2.resize(1 - missing.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    colour = cv2.resize(crop * (1 - missing[..., None]).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    known = np.clip(colour / np.maximum(weight, 1e-3)[..., None], 0, 255).astype(np.uint8)
    filled = cv2.inpaint(known, (weight < 0.25).astype(np.uint8), 4, cv2.INPAINT_TELEA)
    filled = cv2.resize(filled, crop.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    out = image.copy()
    out[part] = np.where(missing[..., None] > 0, filled, crop)
    return out


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance to the nearest masked pixel, float32 (h, w), pixels."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)


def _membrane(difference: NDArray[np.int16], ring: NDArray[np.bool_], band: int) -> NDArray[np.float32]:
    """Extend the smooth part of the difference between frame and fill into the mask, float32 (h, w, 3).

    It corrects for exposure and drifting light. Large differences are excluded: they are another object in the ring, or
    a shadow.
    """
    height, width = ring.shape
    size = max(1, width // 4), max(1, height // 4)
    light = max_channel(cv2.absdiff(difference, np.zeros_like(difference))) < 24
    weight = cv2.resize((ring & light).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    slow = cv2.resize(difference * (ring & light)[..., None].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    sigma = max(1.0, band / 4)
    weight, slow = cv2.GaussianBlur(weight, (0, 0), sigma), cv2.GaussianBlur(slow, (0, 0), sigma)
    slow = slow / (weight + 0.02)[..., None]
    return cv2.resize(slow, (width, height), interpolation=cv2.INTER_LINEAR)
