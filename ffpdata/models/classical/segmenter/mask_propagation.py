"""Propagate an object's mask through a clip: warped by flow, then fitted to the evidence in every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.core.errors import Reject
from ffpdata.media import flow
from ffpdata.media import masks as masklib
from ffpdata.models.classical.segmenter.object_tracks import Seed, travel
from ffpdata.models.classical.segmenter.pixel_evidence import (
    ClipEvidence,
    Colours,
    Flows,
    PlateDifference,
    guided_filter,
    plate_difference,
)
from ffpdata.models.mask_guards import clip_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.protocols import Box, Frames, Masks

    Mask = NDArray[np.bool_]
    Plane = NDArray[np.float32]

_TRAVELS = 1.2
"""Distance, in its own sizes, from which a moving object reveals its background."""

_SMALLEST_BOX = 4
"""Smallest side of a box, in pixels of the small copy."""

_REACH = 10
"""Pixels of the small copy farther than this from a rough outline are not the object."""

_RETURNS = 6
"""How often a lost object is searched for."""


def propagate_masks(
    evidence: ClipEvidence, difference: PlateDifference, seed: Seed, differs: Masks | None = None
) -> Masks:
    """Propagate the seed's mask through the clip, in both directions.

    Args:
        evidence: the clip and its measures.
        difference: distance from the clean plate.
        seed: where to start.
        differs: bool (T, h, w), components of the difference: limbs are added from them, and a lost object, e.g. one
            that left the frame, is searched for among them. None where they are unreliable.

    Returns:
        bool (T, h, w), empty where the object is not visible.
    """
    clip = evidence.clip
    start = fill_small_holes(seed.mask)
    near = cv2.dilate(start.astype(np.uint8), np.ones((41, 41), np.uint8)) > 0
    masks = np.zeros(clip.shape[:3], np.bool_)
    outside = np.zeros_like(masks)
    masks[seed.frame], outside[seed.frame] = start, near & ~start
    colours = Colours.learn(clip, masks, outside, [seed.frame])
    labeller = PixelLabeller(
        clip, evidence.flows, difference, differs, colours, float(cv2.countNonZero(start.view(np.uint8)))
    )
    masks[seed.frame] = labeller.fit(seed.frame, start)
    labeller.propagate(masks, seed.frame)
    tried: set[int] = set()
    for _ in range(_RETURNS):
        reseed = labeller.find_lost_object(masks, tried)
        if reseed is None:
            break
        tried.add(reseed.frame)
        extended = masks.copy()
        extended[reseed.frame] = labeller.fit(reseed.frame, reseed.mask)
        ends = labeller.propagate(extended, reseed.frame)
        if all(labeller.joins(masks, extended, end) for end in ends):
            masks = extended
    return masks


def segment_box(evidence: ClipEvidence, box: Box, scale: float) -> tuple[Masks, PlateDifference]:
    """Segment the object in a user's box in the first frame, and propagate its mask.

    Args:
        evidence: the clip and its measures.
        box: x0, y0, x1, y1 in pixels of the full size.
        scale: width of the small copy over the full width.

    Returns:
        The masks, bool (T, h, w), and the distance from the clean plate.

    Raises:
        Reject: `no_target` where the box is outside the frame or has no distinct object.
    """
    clip = evidence.clip
    height, width = clip.shape[1:3]
    x0, y0, x1, y1 = (round(v * scale) for v in clip_box(box, (round(height / scale), round(width / scale))))
    x1, y1 = min(width, x1), min(height, y1)
    if x1 - x0 < _SMALLEST_BOX or y1 - y0 < _SMALLEST_BOX:
        least = _SMALLEST_BOX / scale
        raise Reject(
            "no_target", f"the box {tuple(box)} shows too little of the frame: {least:.0f} pixels a side at least"
        )
    seed = Seed(0, _grabcut_box(clip[0], (x0, y0, x1, y1)))
    if not seed.mask.any():
        raise Reject("no_target", f"nothing stands out from its surroundings in the box {tuple(box)}")
    masks = propagate_masks(evidence, PlateDifference.unknown(clip.shape[:3]), seed)
    difference = plate_difference(clip, masklib.dilate(masks, max(3, width // 60)), evidence.path)
    if travel(dict(enumerate(masks)), evidence.path) < _TRAVELS:
        # Its background stays hidden, so that differences nearby are not the object.
        return propagate_masks(evidence, difference, seed), difference
    differs = difference.components()
    inside = np.zeros_like(seed.mask)
    inside[y0:y1, x0:x1] = differs[0, y0:y1, x0:x1]
    if cv2.countNonZero(inside.view(np.uint8)) > 0.15 * (x1 - x0) * (y1 - y0):
        seed = Seed(0, inside)
    return propagate_masks(evidence, difference, seed, differs), difference


@dataclass
class PixelLabeller:
    """Labels each pixel as object or not, from all evidence.

    Attributes:
        clip: uint8 (T, h, w, 3).
        flows: flow between its frames.
        difference: distance from the clean plate.
        differs: bool (T, h, w), its components; None where the plate is unreliable.
        colours: colour model of the object.
        found_area: the object's area in the seed's frame, pixels.
    """

    clip: Frames
    flows: Flows
    difference: PlateDifference
    differs: Masks | None
    colours: Colours
    found_area: float

    def propagate(self, masks: Masks, start: int) -> list[tuple[int, int]]:
        """Propagate the mask of frame `start` into `masks` both ways, until it is lost or a frame already has a mask.

        Returns:
            For each such frame: its index, and the step (1 or -1) that led there.
        """
        joined = []
        for step in (1, -1):
            t = start + step
            while 0 <= t < len(masks) and masks[t - step].any():
                if masks[t].any():
                    joined.append((t, step))
                    break
                masks[t] = self.fit(t, self.flows.warp_mask(masks[t - step], t - step, t))
                t += step
        return joined

    def joins(self, masks: Masks, extended: Masks, end: tuple[int, int]) -> bool:
        """Return whether the re-found object, propagated to frame `end`, overlaps the mask there."""
        t, step = end
        warped = self.flows.warp_mask(extended[t - step], t - step, t)
        common = cv2.countNonZero((warped & masks[t]).view(np.uint8))
        return common > 0.4 * cv2.countNonZero(warped.view(np.uint8))

    def find_lost_object(self, masks: Masks, tried: set[int]) -> Seed | None:
        """Return the component most similar to the object in colour and size, among frames without a mask."""
        best, best_similarity = None, 0.0
        if self.differs is None:
            return None
        for t, differs in enumerate(self.differs):
            if t in tried or masks[t].any() or not differs.any():
                continue
            log_ratios = self.colours.log_ratio(self.clip[t])
            count, labels, stats, _ = cv2.connectedComponentsWithStats(differs.view(np.uint8))
            for i in range(1, count):
                ratio = stats[i, cv2.CC_STAT_AREA] / self.found_area
                if not 0.4 < ratio < 2:
                    continue
                part = labels == i
                similarity = float(log_ratios[part].mean()) - abs(float(np.log(ratio)))
                if similarity > best_similarity:
                    best, best_similarity = Seed(t, part), similarity
        return best

    def fit(self, t: int, prior: Mask) -> Mask:
        """Fit a rough mask (h, w) to frame `t` by distance from the plate, colours and the rough outline."""
        if not prior.any():
            return prior
        crop = around(prior, 2 * _REACH)
        distance = _signed_distance(prior[crop])
        shape = np.clip(distance / 3, -3.0, 2.0)
        shape[distance < -_REACH] = -np.inf
        out = self.fit_shape(t, crop, shape)
        if self.differs is not None and out.any():
            for _ in range(2):  # the second time for parts attached to a limb
                out = self._attach(out, self.differs[t])
        return fill_small_holes(out)

    def fit_shape(self, t: int, crop: tuple[slice, slice], shape: Plane) -> Mask:
        """Weigh a rough outline against distance from the plate and colours, along the edges of frame `t`.

        Args:
            t: the frame.
            crop: rows and columns of the frame that are looked at.
            shape: float32 of the crop's size: above 0 where the rough outline says object, about -3..3; minus infinity
                where it says that no other evidence counts.

        Returns:
            bool (h, w), without specks and without parts far smaller than the largest one.
        """
        frame = np.ascontiguousarray(self.clip[t][crop])
        known = self.difference.known[t][crop]
        levels = self.difference.levels[t][crop].astype(np.float32)
        score = shape + np.where(known, np.clip((levels - 16) / 6, -2.7, 3.0), 0)
        score += np.clip(self.colours.log_ratio(frame) * np.where(known, 0.25, 0.6), -2, 2)
        score[np.isneginf(shape)] = -3
        guide = flow.gray(frame).astype(np.float32) / 255
        found = (guided_filter(guide, score, 3, 2e-3) > 0).astype(np.uint8)
        found = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(found)
        out = np.zeros(self.clip.shape[1:3], np.bool_)
        if count > 1:
            keep = stats[:, cv2.CC_STAT_AREA] >= max(8, 0.15 * int(stats[1:, cv2.CC_STAT_AREA].max()))
            keep[0] = False
            out[crop] = keep[labels]
        return out

    def _attach(self, mask: Mask, differs: Mask) -> Mask:
        """Add limbs: components that touch the object and differ from the background, unless they are too large.

        Small ones need only be near: motion blur separates thin limbs. The rim of one or two pixels that differs around
        every outline is blur and no limb.
        """
        own = cv2.countNonZero(mask.view(np.uint8))
        outer = differs & (cv2.dilate(mask.view(np.uint8), np.ones((7, 7), np.uint8)) == 0)
        near = cv2.dilate(outer.view(np.uint8), np.ones((7, 7), np.uint8))
        count, labels = cv2.connectedComponents(near)
        reached = cv2.dilate(mask.view(np.uint8), np.ones((9, 9), np.uint8)) > 0
        beside = cv2.dilate(mask.view(np.uint8), np.ones((49, 49), np.uint8)) > 0
        sizes = np.bincount((labels * outer).ravel(), minlength=count)
        room = 0.7 * own
        limbs = np.zeros(count, bool)
        small = {k for k in np.unique(labels[beside]).tolist() if sizes[k] < 0.1 * self.found_area}
        for limb in sorted((set(np.unique(labels[reached]).tolist()) | small) - {0}, key=lambda k: sizes[k]):
            room -= sizes[limb]
            if room < 0 or sizes[limb] > 0.6 * self.found_area:
                break
            limbs[limb] = True
        if not limbs.any():
            return mask
        return mask | (limbs[labels] & differs)


def around(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of a mask that is not empty, with `margin` pixels on each side."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    return slice(max(0, y - margin), y + h + margin), slice(max(0, x - margin), x + w + margin)


def fill_small_holes(mask: Mask) -> Mask:
    """Fill small holes of a mask; larger ones, as between arm and body or in a wheel, stay open."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    most = 0.02 * cv2.countNonZero(mask.view(np.uint8))
    small = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] <= most]
    return mask | np.isin(labels, small) if small else mask


def _signed_distance(mask: Mask) -> Plane:
    """Return the signed distance to the outline, positive inside, float32 (h, w), pixels."""
    inside = mask.astype(np.uint8)
    return cv2.distanceTransform(inside, cv2.DIST_L2, 3) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)


def _grabcut_box(image: NDArray[np.uint8], box: tuple[int, int, int, int]) -> Mask:
    """Segment the object in a box from its surroundings by GrabCut, bool (h, w)."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box
    pad = max(8, (x1 - x0 + y1 - y0) // 4)
    left, top = max(0, x0 - pad), max(0, y0 - pad)
    crop = np.ascontiguousarray(image[top : min(height, y1 + pad), left : min(width, x1 + pad)])
    labels = np.full(crop.shape[:2], cv2.GC_BGD, np.uint8)
    labels[y0 - top : y1 - top, x0 - left : x1 - left] = cv2.GC_PR_FGD
    cv2.setRNGSeed(3)
    cv2.grabCut(crop, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    found = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(found)
    out = np.zeros((height, width), np.bool_)
    if count > 1:
        part = parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        out[top : top + crop.shape[0], left : left + crop.shape[1]] = part
    return out
