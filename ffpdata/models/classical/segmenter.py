"""Segmentation without a network: the one thing that moves against the camera, or what a user's box holds.

It knows no words: the phrase is taken on trust. What it gets wrong (water, blurred foregrounds, parallax, two things at
once) is refused by gates, each with its measured value: few good masks are worth more than many bad ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ffpdata.core.errors import Reject
from ffpdata.media import flow
from ffpdata.media import masks as masklib
from ffpdata.models.classical import evidence
from ffpdata.models.protocols import Box, Segmentation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames, Masks

    Mask = NDArray[np.bool_]
    Plane = NDArray[np.float32]

_LEARN_FRAMES = 8
"""Frames that the object's colours are learnt from."""


class MotionSegmenterSettings(BaseModel):
    """Settings of `MotionSegmenter`: the gates. Areas are fractions of the frame."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_motion_px: float = Field(0.8, gt=0)
    """Slowest motion against the camera that counts, pixels of a 640-wide picture in two frames."""
    min_area: float = Field(0.002, ge=0, le=1)
    """Mean area of the mask below which `mask_too_small` is rejected."""
    max_area: float = Field(0.4, ge=0, le=1)
    """Mean area of the mask above which `mask_too_large` is rejected."""
    min_coverage: float = Field(0.6, ge=0, le=1)
    """Smallest fraction of frames that show the object (`coverage`)."""
    min_temporal_iou: float = Field(0.75, ge=0, le=1)
    """Smallest mean overlap of a mask with its successor brought back by flow (`temporal_iou`)."""
    min_motion_coherence: float = Field(0.25, ge=0, le=1)
    """Smallest share of all motion against the camera that is the object's (`motion_coherence`)."""
    min_travel: float = Field(1.2, ge=0)
    """Shortest way, in the object's own sizes, that it moves against the background (`stays_in_place`). What moves less
    keeps parts of itself in the clean plate, and its mask has holes there."""
    min_distinctness: float = Field(1.25, ge=0)
    """Smallest product of `motion_coherence` and `travel` (`not_distinct`): among other motion, an object must get far
    to be told from it. It parted right from wrong masks on 20 real and 6 made clips."""
    max_border: float = Field(0.35, ge=0, le=1)
    """Largest share of the frame's border that the mask may cover (`mask_touches_border`)."""
    min_inliers: float = Field(0.2, ge=0, le=1)
    """Smallest mean fraction of points that follow one camera motion (`camera_unstable`)."""


_POINTS = 250
"""Points that the camera is estimated from; motion is then known to a tenth of a pixel, which is enough here."""


_TRAVELS = 1.2
"""What moves this far, in its own sizes, uncovers its background."""

_SPECK = 24
"""Components of fewer pixels of the small copy are noise."""

_RETURNS = 6
"""How often an object that was lost is looked for again."""


@dataclass
class _Seed:
    """A rough mask of the object in one frame to start from."""

    frame: int
    mask: Mask


class MotionSegmenter:
    """The embedded segmenter.

    Facts of an answer: `area` (mean fraction of the frame), `coverage` (fraction of frames with a mask), `temporal_iou`
    (mean overlap with the successor brought back by flow), `motion_coherence` (share of all motion against the camera
    that lies on the object), `border` (largest share of the frame's border under the mask), `camera_inliers`.
    """

    version: int = 1

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = MotionSegmenterSettings.model_validate(spec.settings)

    def close(self) -> None:
        """Free nothing: no process and no memory is held."""

    def segment(self, frames: Frames, phrases: Sequence[str], box: Box | None = None) -> Segmentation:
        """Segment what moves against the camera, or what `box` holds in the first frame.

        Args:
            frames: uint8 (T, H, W, 3) RGB.
            phrases: the first one names the answer; none is understood.
            box: x0, y0, x1, y1 in pixels of the first frame; the gates on motion are then left out.

        Raises:
            Reject: `no_target`, `camera_unstable`, `mask_too_small`, `mask_too_large`, `coverage`, `temporal_iou`,
                `motion_coherence` or `mask_touches_border`, with value and limit.
        """
        clip = evidence.small_copy(frames)
        scale = clip.shape[2] / frames.shape[2]
        path = flow.camera_path(frames, points=_POINTS)
        if box is None and path.inliers.mean() < self.settings.min_inliers:
            raise Reject("camera_unstable", _compare(path.inliers.mean(), "at least", self.settings.min_inliers))
        path = evidence.scaled(path, scale)
        flows = evidence.Flows(clip)
        motion = evidence.residual_motion(flows, path)
        level = max(self.settings.min_motion_px, min(evidence.otsu_level(motion, 8.0), 3.0))
        if box is None:
            masks = self._find(clip, flows, path, motion, level)
        else:
            masks = _follow_box(clip, flows, path, box, scale)
        facts = _measure(flows, path, masks, motion, level)
        facts["camera_inliers"] = float(path.inliers.mean())
        self._gate(facts, boxed=box is not None)
        phrase = phrases[0] if phrases else "moving object"
        score = facts["temporal_iou"] * facts["coverage"] * (1.0 if box else facts["motion_coherence"])
        return Segmentation(_enlarge(masks, frames.shape[1:3]), phrase, float(np.clip(score, 0, 1)), facts)

    def _find(self, clip: Frames, flows: evidence.Flows, path: flow.CameraPath, motion: Plane, level: float) -> Masks:
        """Find the object by its motion, then again by what it hides."""
        reach = max(2, clip.shape[2] // 80)
        hidden = masklib.dilate(_tidy(motion > level, reach // 2), reach)
        floor = max(12, int(0.5 * self.settings.min_area * motion[0].size))
        difference, _ = evidence.plate_difference(clip, hidden, path)
        differs = _differs(difference)
        seed = _best_track(flows, path, motion, level, differs, floor)
        if seed is None:
            raise Reject("no_target", "nothing moves against the camera for long enough")
        return _follow(clip, flows, difference, seed, differs)

    def _gate(self, facts: dict[str, float], *, boxed: bool) -> None:
        limits = self.settings
        checks = [
            ("mask_too_small", "area", "at least", limits.min_area),
            ("mask_too_large", "area", "at most", limits.max_area),
            ("coverage", "coverage", "at least", limits.min_coverage),
            ("temporal_iou", "temporal_iou", "at least", limits.min_temporal_iou),
            ("mask_touches_border", "border", "at most", limits.max_border),
        ]
        if not boxed:
            checks += [
                ("motion_coherence", "motion_coherence", "at least", limits.min_motion_coherence),
                ("stays_in_place", "travel", "at least", limits.min_travel),
                ("not_distinct", "distinctness", "at least", limits.min_distinctness),
            ]
        for reason, name, how, limit in checks:
            value = facts[name]
            if value < limit if how == "at least" else value > limit:
                raise Reject(reason, f"{name} is {_compare(value, how, limit)}", dict(facts))


def _compare(value: float, how: str, limit: float) -> str:
    return f"{value:.4g}, {how} {limit:g}"


def _tidy(masks: Masks, px: int) -> Masks:
    """Drop specks of up to `px` pixels' radius."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * px + 1, 2 * px + 1))
    return np.stack([cv2.morphologyEx(m.view(np.uint8), cv2.MORPH_OPEN, kernel).astype(bool) for m in masks])


def _differs(difference: evidence.Difference) -> Masks:
    """Where a frame differs from the clean plate, bool (T, h, w), specks dropped and gaps closed."""
    usual = (
        np.quantile(difference.levels[:, ::3, ::3][difference.known[:, ::3, ::3]], 0.9) if difference.known.any() else 0
    )
    level = float(np.clip(7 + 3 * usual, 8, 24))
    raw = (difference.levels > level) & difference.known
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    out = np.zeros_like(raw)
    for t, plane in enumerate(raw):
        closed = cv2.morphologyEx(plane.view(np.uint8), cv2.MORPH_CLOSE, disc)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(closed)
        real = stats[:, cv2.CC_STAT_AREA] >= _SPECK
        real[0] = False
        out[t] = real[labels]
    return out


@dataclass
class _Track:
    """Components of the difference that follow one another, by frame, and how much motion they carry."""

    members: dict[int, Mask]
    motion: float

    def travel(self, path: flow.CameraPath) -> float:
        """How far it gets, in its own sizes, once the camera's motion is taken away."""
        return _travel(self.members, path)


def _travel(members: dict[int, Mask], path: flow.CameraPath) -> float:
    """Distance between the outermost places of an object over the square root of its area."""
    centres, areas = [], []
    for t, mask in members.items():
        ys, xs = np.nonzero(mask)
        if len(xs):
            at = np.array([[[xs.mean(), ys.mean()]]])
            centres.append(cv2.perspectiveTransform(at, path.to_reference[t])[0, 0])
            areas.append(len(xs))
    if len(centres) < 2:
        return 0.0
    low, high = np.quantile(np.array(centres), (0.05, 0.95), axis=0)
    return float(np.hypot(*(high - low)) / np.sqrt(np.median(areas)))


def _best_track(
    flows: evidence.Flows, path: flow.CameraPath, motion: Plane, level: float, differs: Masks, floor: int
) -> _Seed | None:
    """Link components from frame to frame; return a seed on the track that moves most and gets farthest."""
    running: list[_Track] = []
    tracks: list[_Track] = []
    for t in range(len(differs)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(differs[t].view(np.uint8))
        found = [labels == i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= floor]
        speeds = [np.minimum(motion[t][m].astype(np.float32), 8) for m in found]
        carried = [float(s.sum()) if (s > level).any() else 0.0 for s in speeds]
        free = set(range(len(found)))
        going = []
        for track in sorted(running, key=lambda k: -k.motion):
            moved = flows.bring(track.members[t - 1], t - 1, t)
            overlaps = {i: int((moved & found[i]).sum()) for i in free}
            best = max(overlaps, key=lambda i: overlaps[i], default=-1)
            if best < 0 or overlaps[best] < 0.3 * min(moved.sum(), found[best].sum()):
                continue
            free.discard(best)
            track.members[t] = found[best]
            track.motion += carried[best]
            going.append(track)
        fresh = [_Track({t: found[i]}, carried[i]) for i in sorted(free, key=lambda i: -carried[i])[:6]]
        tracks += fresh
        running = going + fresh
    shortest = max(3, len(differs) // 8)
    score = {id(k): k.motion * min(k.travel(path), 3.0) ** 2 for k in tracks if len(k.members) >= shortest}
    if not score or max(score.values()) <= 0:
        return None
    best_track = max((k for k in tracks if id(k) in score), key=lambda k: score[id(k)])
    return _clearest(best_track, len(differs))


def _clearest(track: _Track, count: int) -> _Seed:
    """Pick the frame of a track whose component has the usual size, is clear of the border and near the middle."""
    areas = {t: float(m.sum()) for t, m in track.members.items()}
    usual = float(np.median(list(areas.values())))

    def fault(t: int) -> float:
        mask = track.members[t]
        edge = mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum()
        return abs(float(np.log(areas[t] / usual))) + 0.02 * float(edge) + 0.002 * abs(t - count / 2)

    frame = min(areas, key=fault)
    return _Seed(frame, track.members[frame])


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


def _follow(
    clip: Frames, flows: evidence.Flows, difference: evidence.Difference, seed: _Seed, differs: Masks | None = None
) -> Masks:
    """Carry the seed's mask through the clip, both ways, fitting it to the evidence in every frame.

    Where the object was lost, e.g. because it left the frame, it is looked for again among the components of `differs`.
    """
    start = _fill(seed.mask)
    near = cv2.dilate(start.astype(np.uint8), np.ones((41, 41), np.uint8)) > 0
    masks = np.zeros(clip.shape[:3], np.bool_)
    outside = np.zeros_like(masks)
    masks[seed.frame], outside[seed.frame] = start, near & ~start
    colours = evidence.Colours.learn(clip, masks, outside, [seed.frame])
    judge = _Judge(clip, flows, difference, differs, colours, float(cv2.countNonZero(start.view(np.uint8))))
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


@dataclass
class _Judge:
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
    flows: evidence.Flows
    difference: evidence.Difference
    differs: Masks | None
    colours: evidence.Colours
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

    def look_again(self, masks: Masks, tried: set[int]) -> _Seed | None:
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
                    best, best_worth = _Seed(t, part), worth
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
        found = (evidence.guided(guide, score, 3, 2e-3) > 0).astype(np.uint8)
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


def _follow_box(clip: Frames, flows: evidence.Flows, path: flow.CameraPath, box: Box, scale: float) -> Masks:
    """Cut the object out of a user's box in the first frame, and follow it."""
    height, width = clip.shape[1:3]
    x0, y0, x1, y1 = (int(round(v * scale)) for v in box)
    x0, x1 = max(0, min(x0, x1)), min(width, max(x0, x1))
    y0, y1 = max(0, min(y0, y1)), min(height, max(y0, y1))
    if x1 - x0 < 4 or y1 - y0 < 4:
        raise Reject(
            "no_target", f"the box {tuple(box)} holds nothing of the {width / scale:.0f}x{height / scale:.0f} frame"
        )
    seed = _Seed(0, _cut(clip[0], (x0, y0, x1, y1)))
    if not seed.mask.any():
        raise Reject("no_target", f"nothing stands out from its surroundings in the box {tuple(box)}")
    nothing = evidence.Difference(np.zeros(clip.shape[:3], np.uint8), np.zeros(clip.shape[:3], np.bool_))
    masks = _follow(clip, flows, nothing, seed)
    travel = _travel({t: mask for t, mask in enumerate(masks) if mask.any()}, path)
    difference, _ = evidence.plate_difference(clip, masklib.dilate(masks, max(3, width // 60)), path)
    if travel < _TRAVELS:  # its background is not seen, and what differs nearby is something else
        return _follow(clip, flows, difference, seed)
    differs = _differs(difference)
    inside = np.zeros_like(seed.mask)
    inside[y0:y1, x0:x1] = differs[0, y0:y1, x0:x1]
    if cv2.countNonZero(inside.view(np.uint8)) > 0.15 * (x1 - x0) * (y1 - y0):
        seed = _Seed(0, inside)
    return _follow(clip, flows, difference, seed, differs)


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


def _measure(
    flows: evidence.Flows, path: flow.CameraPath, masks: Masks, motion: Plane, level: float
) -> dict[str, float]:
    """Measure what the gates judge."""
    size = masks[0].size
    areas = masklib.area(masks)
    shown = areas > 0.0005 * size
    ious = []
    for t in range(len(masks) - 1):
        if shown[t] and shown[t + 1]:
            moved = flows.bring(masks[t + 1], t + 1, t)
            ious.append(float(masklib.iou(masks[t][None], moved[None])[0]))
    strong = np.where(motion > level, np.minimum(motion, 12), 0).astype(np.float32)
    on_object = float(strong[masklib.dilate(masks, max(2, masks.shape[2] // 100))].sum())
    coherence = on_object / max(1e-6, float(strong[shown].sum()))
    travel = _travel({t: masks[t] for t in np.flatnonzero(shown).tolist()}, path)
    edge = np.concatenate([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], axis=1)
    return {
        "area": float(areas[shown].mean() / size) if shown.any() else 0.0,
        "coverage": float(shown.mean()),
        "temporal_iou": float(np.mean(ious)) if ious else 0.0,
        "motion_coherence": coherence,
        "travel": travel,
        "distinctness": coherence * travel,
        "isolation": _isolation(masks, strong),
        "shape_stability": _shape_stability(masks, shown),
        "area_jump": float(np.mean(np.abs(np.diff(np.log(areas[shown]))))) if shown.sum() > 1 else 1.0,
        "border": float(edge.mean(axis=1).max()),
    }


def _isolation(masks: Masks, strong: Plane) -> float:
    """Share of the motion in the object's surroundings that is its own: low where it is a part of what moves."""
    near, far = masks.shape[2] // 100 + 1, masks.shape[2] // 14
    own = around = 0.0
    for mask, speed in zip(masks, strong, strict=True):
        if mask.any():
            distance = cv2.distanceTransform(1 - mask.view(np.uint8), cv2.DIST_L2, 3)
            own += float(speed[distance <= near].sum())
            around += float(speed[distance <= far].sum())
    return own / max(1e-6, around)


def _shape_stability(masks: Masks, shown: NDArray[np.bool_], gap: int = 6) -> float:
    """Median overlap of masks `gap` frames apart once both are centred and brought to one size."""
    side = 96
    values = []
    crops: dict[int, Mask] = {}
    for t in np.flatnonzero(shown).tolist():
        ys, xs = np.nonzero(masks[t])
        centre, size = (xs.mean(), ys.mean()), np.sqrt(len(xs))
        zoom = side / 3 / size
        place = np.array([[zoom, 0, side / 2 - zoom * centre[0]], [0, zoom, side / 2 - zoom * centre[1]]])
        crops[t] = cv2.warpAffine(masks[t].view(np.uint8) * np.uint8(255), place, (side, side)) > 127
    for t, crop in crops.items():
        if t + gap in crops:
            values.append(float(masklib.iou(crop[None], crops[t + gap][None])[0]))
    return float(np.median(values)) if values else 0.0


def _enlarge(masks: Masks, size: tuple[int, int]) -> Masks:
    """Bring small masks to `size` (height, width) with smooth outlines."""
    if masks.shape[1:] == size:
        return masks
    out = np.zeros((len(masks), *size), np.bool_)
    for small, large in zip(masks, out, strict=True):
        if small.any():
            soft = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 0.8)
            large[:] = cv2.resize(soft, size[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
    return out
