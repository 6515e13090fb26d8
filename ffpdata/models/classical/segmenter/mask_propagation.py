"""Carrying an object's mask through a clip: brought along by flow, fitted to the evidence in every frame."""

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
    guided,
    plate_difference,
)
from ffpdata.models.mask_guards import clip_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.protocols import Box, Frames, Masks

    Mask = NDArray[np.bool_]
    Plane = NDArray[np.float32]

_TRAVELS = 1.2
"""What moves this far, in its own sizes, uncovers its background."""

_SMALLEST_BOX = 4
"""Least side of a box, in pixels of the small copy."""

_RETURNS = 6
"""How often an object that was lost is looked for again."""


def follow(observed: ClipEvidence, difference: PlateDifference, seed: Seed, differs: Masks | None = None) -> Masks:
    """Carry the seed's mask through the clip, both ways.

    Args:
        observed: the clip.
        difference: distance from the clean plate.
        seed: where to start.
        differs: bool (T, h, w), components of the difference: limbs are added from them, and an object that was lost,
            e.g. because it left the frame, is looked for again among them. None where they are not to be trusted.

    Returns:
        bool (T, h, w), empty where the object is not seen.
    """
    clip = observed.clip
    start = _fill(seed.mask)
    near = cv2.dilate(start.astype(np.uint8), np.ones((41, 41), np.uint8)) > 0
    masks = np.zeros(clip.shape[:3], np.bool_)
    outside = np.zeros_like(masks)
    masks[seed.frame], outside[seed.frame] = start, near & ~start
    colours = Colours.learn(clip, masks, outside, [seed.frame])
    judge = _PixelLabeller(
        clip, observed.flows, difference, differs, colours, float(cv2.countNonZero(start.view(np.uint8)))
    )
    masks[seed.frame] = judge.fit(seed.frame, start)
    judge.spread(masks, seed.frame)
    tried: set[int] = set()
    for _ in range(_RETURNS):
        again = judge.look_again(masks, tried)
        if again is None:
            break
        tried.add(again.frame)
        more = masks.copy()
        more[again.frame] = judge.fit(again.frame, again.mask)
        ends = judge.spread(more, again.frame)
        if all(judge.agrees(masks, more, end) for end in ends):
            masks = more
    return masks


def follow_box(observed: ClipEvidence, box: Box, scale: float) -> tuple[Masks, PlateDifference]:
    """Cut the object out of a user's box in the first frame, and follow it.

    Args:
        observed: the clip.
        box: x0, y0, x1, y1 in pixels of the full size.
        scale: width of the small copy over the full width.

    Returns:
        The masks, and what differs from the background.

    Raises:
        Reject: `no_target` where the box is off the frame or nothing stands out in it.
    """
    clip = observed.clip
    height, width = clip.shape[1:3]
    x0, y0, x1, y1 = (round(v * scale) for v in clip_box(box, (round(height / scale), round(width / scale))))
    x1, y1 = min(width, x1), min(height, y1)
    if x1 - x0 < _SMALLEST_BOX or y1 - y0 < _SMALLEST_BOX:
        least = _SMALLEST_BOX / scale
        raise Reject(
            "no_target", f"the box {tuple(box)} shows too little of the frame: {least:.0f} pixels a side at least"
        )
    seed = Seed(0, _cut(clip[0], (x0, y0, x1, y1)))
    if not seed.mask.any():
        raise Reject("no_target", f"nothing stands out from its surroundings in the box {tuple(box)}")
    masks = follow(observed, PlateDifference.unknown(clip.shape[:3]), seed)
    difference = plate_difference(clip, masklib.dilate(masks, max(3, width // 60)), observed.path)
    if travel(dict(enumerate(masks)), observed.path) < _TRAVELS:
        # Its background is not seen, and what differs nearby is something else.
        return follow(observed, difference, seed), difference
    differs = difference.components()
    inside = np.zeros_like(seed.mask)
    inside[y0:y1, x0:x1] = differs[0, y0:y1, x0:x1]
    if cv2.countNonZero(inside.view(np.uint8)) > 0.15 * (x1 - x0) * (y1 - y0):
        seed = Seed(0, inside)
    return follow(observed, difference, seed, differs), difference


@dataclass
class _PixelLabeller:
    """Decides pixel by pixel what belongs to the object, from all evidence at hand.

    Attributes:
        clip: uint8 (T, h, w, 3).
        flows: flow between its frames.
        difference: distance from the clean plate.
        differs: bool (T, h, w), its components; None where the plate is not to be trusted.
        colours: what the object's colours are.
        usual: the object's area in the frame that it was found in, pixels.
    """

    clip: Frames
    flows: Flows
    difference: PlateDifference
    differs: Masks | None
    colours: Colours
    usual: float

    def spread(self, masks: Masks, start: int) -> list[tuple[int, int]]:
        """Carry the mask of frame `start` both ways into `masks`, until it is lost or a frame with a mask is met.

        Returns:
            For each frame that was met: its index, and the step that led there.
        """
        met = []
        for step in (1, -1):
            t = start + step
            while 0 <= t < len(masks) and masks[t - step].any():
                if masks[t].any():
                    met.append((t, step))
                    break
                masks[t] = self.fit(t, self.flows.bring(masks[t - step], t - step, t))
                t += step
        return met

    def agrees(self, masks: Masks, more: Masks, end: tuple[int, int]) -> bool:
        """Say whether what was found again runs into the object that frame `end` shows, and not past it."""
        t, step = end
        carried = self.flows.bring(more[t - step], t - step, t)
        common = cv2.countNonZero((carried & masks[t]).view(np.uint8))
        return common > 0.4 * cv2.countNonZero(carried.view(np.uint8))

    def look_again(self, masks: Masks, tried: set[int]) -> Seed | None:
        """Find the component in a frame without a mask that is most like the object in colour and size."""
        best, best_worth = None, 0.0
        if self.differs is None:
            return None
        for t, differs in enumerate(self.differs):
            if t in tried or masks[t].any() or not differs.any():
                continue
            judged = self.colours.judge(self.clip[t])
            count, labels, stats, _ = cv2.connectedComponentsWithStats(differs.view(np.uint8))
            for i in range(1, count):
                ratio = stats[i, cv2.CC_STAT_AREA] / self.usual
                if not 0.4 < ratio < 2:
                    continue
                part = labels == i
                worth = float(judged[part].mean()) - abs(float(np.log(ratio)))
                if worth > best_worth:
                    best, best_worth = Seed(t, part), worth
        return best

    def fit(self, t: int, prior: Mask) -> Mask:
        """Fit a rough mask (h, w) to frame `t`: distance from the plate, colours, nearness to the rough outline."""
        if not prior.any():
            return prior
        reach = 10
        x, y, w, h = cv2.boundingRect(prior.view(np.uint8))
        crop = slice(max(0, y - 2 * reach), y + h + 2 * reach), slice(max(0, x - 2 * reach), x + w + 2 * reach)
        frame = np.ascontiguousarray(self.clip[t][crop])
        distance = _signed(prior[crop])
        known = self.difference.known[t][crop]
        levels = self.difference.levels[t][crop].astype(np.float32)
        score = np.clip(distance / 3, -3.0, 2.0)
        score += np.where(known, np.clip((levels - 16) / 6, -2.7, 3.0), 0)
        score += np.clip(self.colours.judge(frame) * np.where(known, 0.25, 0.6), -2, 2)
        score[distance < -reach] = -3
        guide = flow.gray(frame).astype(np.float32) / 255
        found = (guided(guide, score, 3, 2e-3) > 0).astype(np.uint8)
        found = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(found)
        out = np.zeros_like(prior)
        if count < 2:
            return out
        keep = stats[:, cv2.CC_STAT_AREA] >= max(8, 0.15 * int(stats[1:, cv2.CC_STAT_AREA].max()))
        keep[0] = False
        out[crop] = keep[labels]
        if self.differs is not None:
            for _ in range(2):  # the second time for what hangs on a limb
                out = self._attach(out, self.differs[t])
        return _fill(out)

    def _attach(self, mask: Mask, differs: Mask) -> Mask:
        """Add the limbs that hang on the object and differ from the background too, unless they are a bigger thing.

        Small ones count already where they lie beside it: motion blur tears thin limbs off. The rim of a pixel or two
        that differs around every outline is blur, not object, and is no limb.
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
        small = {k for k in np.unique(labels[beside]).tolist() if sizes[k] < 0.1 * self.usual}
        for limb in sorted((set(np.unique(labels[reached]).tolist()) | small) - {0}, key=lambda k: sizes[k]):
            room -= sizes[limb]
            if room < 0 or sizes[limb] > 0.6 * self.usual:
                break
            limbs[limb] = True
        if not limbs.any():
            return mask
        return mask | (limbs[labels] & differs)


def _fill(mask: Mask) -> Mask:
    """Fill the small holes of a mask; those between an arm and a body, or in a wheel, stay open."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    most = 0.02 * cv2.countNonZero(mask.view(np.uint8))
    small = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] <= most]
    return mask | np.isin(labels, small) if small else mask


def _signed(mask: Mask) -> Plane:
    """Signed distance to the outline, positive inside, pixels."""
    inside = mask.astype(np.uint8)
    return cv2.distanceTransform(inside, cv2.DIST_L2, 3) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)


def _cut(image: NDArray[np.uint8], box: tuple[int, int, int, int]) -> Mask:
    """GrabCut the object in a box from its surroundings, bool (h, w)."""
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
