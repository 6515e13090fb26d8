"""An object in key frames: followed by flow, found again by the detector, outlined by the saliency network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.models.pretrained.candidates import kinds
from ffpdata.models.pretrained.detector import Detection, area, overlap
from ffpdata.models.pretrained.salient import margin_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.classical.segmenter.pixel_evidence import Flows
    from ffpdata.models.pretrained.detector import ObjectDetector
    from ffpdata.models.pretrained.salient import SalientObjects
    from ffpdata.models.protocols import Box, Frames

    Mask = NDArray[np.bool_]
    Plane = NDArray[np.float32]

_FADES = 0.97
"""What a frame says of the next one, of what it says of itself: flow errors add up."""
_TRUST = (_FADES * np.exp(-np.maximum(np.arange(256) - 4, 0) / 20)).astype(np.float32)
"""The same by how far the flow's picture is off, in levels."""
_FOLLOWED = 0.65
"""Weight of what flow brings to a key frame, against the network there."""
_AGREES = 0.75
"""Overlap of what flow brings with the network's outline, below which a key frame is put in between."""
_FAST = 4
"""Distance of key frames that is short enough for fast motion."""
_OUTSIDE = 0.08
"""The object may reach beyond its box by this share of its sides: detectors cut off thin parts."""
_GONE = 0.12
"""An object of which flow brings less than this share of its area is lost from sight."""
_CLEAR = 0.7
"""Distance of an outline's value from 0, of 1, from which the network is sure of it."""
_FAILED = 1.0
"""Area of which the network is unsure, over what it is sure of, from which an outline that flow contradicts is none."""
_CONTRADICTS = 0.5
"""Overlap of what flow brings with such an outline, below which flow contradicts it."""
_OTHER = 0.25
"""Score from which a detection of the same kind beside the object is another one."""
_FOLLOWS = 0.3
"""Overlap of a detection with the box that flow brings, from which it is the same object."""


def key_frames(count: int) -> list[int]:
    """Return the key frames of a clip: every eighth frame, in short clips every fourth, with the first and the last."""
    step = 4 if count <= 41 else 8
    return sorted({*range(0, count, step), count - 1})


@dataclass
class Outlines:
    """What the networks say of one object.

    Attributes:
        maps: key frame to float32 (h, w) of -1..1, above 0 on the object, on the small copy. A key frame without one
            does not show it.
        detections: key frame to the detection that was taken for it.
        missed: key frames in which the network sees no object, and flow does.
    """

    maps: dict[int, Plane] = field(default_factory=dict)
    detections: dict[int, Detection] = field(default_factory=dict)
    missed: set[int] = field(default_factory=set)


class KeyFrames:
    """The key frames of a clip, and what the networks find there; each is asked once at most."""

    def __init__(
        self, frames: Frames, size: tuple[int, int], detector: ObjectDetector, salient: SalientObjects
    ) -> None:
        """Take a clip, uint8 (T, H, W, 3), and the height and width of its small copy."""
        self.indices = key_frames(len(frames))
        self.size = size
        self.scale = size[1] / frames.shape[2]
        self._frames, self._detector, self._salient = frames, detector, salient
        self._found: dict[int, list[Detection]] = {}
        self._outlines: dict[tuple[int, tuple[int, ...]], Plane] = {}

    def detections(self, t: int) -> list[Detection]:
        """Return what is detected in key frame `t`, also with a low score, in pixels of the full size."""
        if t not in self._found:
            self._found[t] = self._detector.detect(self._frames[t], least=0.2)
        return self._found[t]

    def outline(self, t: int, box: Box) -> Plane:
        """Return what is salient around a box of the small copy in key frame `t`, float32 (h, w) of -1..1."""
        where = t, tuple(round(v) for v in box)
        if where in self._outlines:
            return self._outlines[where]
        height, width = self.size
        full = tuple(v / self.scale for v in box)
        (plane,) = self._salient.around([self._frames[t]], [full])
        small = cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)
        x0, y0, x1, y1 = margin_box(box, self.size, _OUTSIDE)
        out = np.full(self.size, -1, np.float32)
        out[y0:y1, x0:x1] = 2 * small[y0:y1, x0:x1] - 1
        self._outlines[where] = out
        return out

    def follow(self, flows: Flows, box: Box, label: str) -> Outlines:
        """Outline the object in `box` of the first frame in all key frames.

        Args:
            flows: flow between the frames of the small copy.
            box: in pixels of the small copy.
            label: of the detector; "" where the object has no name and is followed by flow alone.
        """
        out = Outlines()
        first = _main_parts(self.outline(0, box), _inside(box, self.size))
        out.maps[0] = first
        if found := self._match(0, box, label, box):
            out.detections[0] = found
        belief, seen, at = first, box, 0
        pending = self.indices[1:]
        while pending:
            t = pending[0]
            carried = belief
            for step in range(at, t):
                carried = carry(flows, carried, step, step + 1)
            prior = carried > 0
            followed = _bounds(prior) if prior.sum() > _GONE * (first > 0).sum() else None
            found = self._match(t, followed, label, seen)
            place = self._small(found.box) if found else followed
            if place is None:
                belief, at = np.full(self.size, -1, np.float32), t
                pending.pop(0)
                continue
            plane = _main_parts(self.outline(t, place), _inside(place, self.size) if found else prior)
            if found and followed:
                plane = self._without_others(t, plane, prior, found)
            agrees = _iou(plane > 0, prior) if followed else 1.0
            if t - at > _FAST and agrees < _AGREES:
                pending.insert(0, (at + t) // 2)
                continue
            if agrees < _CONTRADICTS and unsure(plane) > _FAILED:
                out.missed.add(t)
                belief, at = carried, t
                pending.pop(0)
                continue
            out.maps[t] = plane
            if found:
                out.detections[t] = found
            belief, seen, at = plane + (_FOLLOWED * carried if followed else 0), place, t
            pending.pop(0)
        return out

    def _match(self, t: int, box: Box | None, label: str, seen: Box) -> Detection | None:
        """Return the detection of the same kind that overlaps the followed box most, or, without one, the only one."""
        same = [d for d in self.detections(t) if d.label in kinds(label)] if label else []
        if box is None:
            like = [d for d in same if 0.5 < area(self._small(d.box)) / max(1.0, area(seen)) < 2 and d.score >= 0.4]
            return like[0] if len(like) == 1 else None
        best = max(same, key=lambda d: overlap(self._small(d.box), box), default=None)
        return best if best and overlap(self._small(best.box), box) > _FOLLOWS else None

    def _without_others(self, t: int, plane: Plane, prior: Mask, own: Detection) -> Plane:
        """Take out of a map what lies in the box of another detection, unless flow says that it is the object's."""
        others = np.zeros(self.size, np.bool_)
        for one in self.detections(t):
            if (
                one is not own
                and one.label in kinds(own.label)
                and one.score >= _OTHER
                and overlap(one.box, own.box) < 0.5
            ):
                others |= _inside(self._small(one.box), self.size)
        others &= cv2.dilate(prior.view(np.uint8), np.ones((9, 9), np.uint8)) == 0
        return np.where(others, -np.abs(plane), plane)

    def _small(self, box: Box) -> Box:
        x0, y0, x1, y1 = (v * self.scale for v in box)
        return x0, y0, x1, y1


def tie(outlines: Outlines, flows: Flows, count: int) -> Plane:
    """Tie the outlines of the key frames over time: float32 (T, h, w), above 0 on the object.

    Forward and backward along the flow each frame hears from the key frames around it, so that one whose outline
    differs from those of its neighbours is outvoted. Where flow does not fit the picture it is not believed.
    """
    shape = next(iter(outlines.maps.values())).shape
    total = np.zeros((count, *shape), np.float32)
    for order in (range(count), range(count - 1, -1, -1)):
        belief = np.zeros(shape, np.float32)
        for t in order:
            if t != order.start:
                belief = carry(flows, belief, t - order.step, t)
            total[t] += belief * (_FOLLOWED if t in outlines.maps else 1)
            if t in outlines.maps:
                belief = outlines.maps[t] + _FOLLOWED * belief
    for t, plane in outlines.maps.items():
        total[t] += plane
    return total


def carry(flows: Flows, belief: Plane, source: int, target: int) -> Plane:
    """Carry what is believed of frame `source` to its neighbour `target`, less where flow does not fit the picture."""
    warped = flows.warp(cv2.merge([belief, flows.grays[source].astype(np.float32)]), source, target)
    off = cv2.blur(np.abs(warped[..., 1] - flows.grays[target]), (5, 5))
    return warped[..., 0] * _TRUST[off.astype(np.uint8)]


def unsure(plane: Plane) -> float:
    """Return the area of which an outline, of -1..1, is unsure, over what it is sure of; large where that is none."""
    return float((np.abs(plane) < _CLEAR).sum() + (not (plane > 0).any()) * plane.size) / max(1, (plane > 0).sum())


def _iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def _inside(box: Box, size: tuple[int, int]) -> Mask:
    out = np.zeros(size, np.bool_)
    x0, y0, x1, y1 = margin_box(box, size, 0.0)
    out[y0:y1, x0:x1] = True
    return out


def _bounds(mask: Mask) -> Box:
    """Return the box that holds all of a mask but the outermost hundredth on each side."""
    rows, columns = np.cumsum(mask.sum(axis=1)), np.cumsum(mask.sum(axis=0))
    y0, y1 = np.searchsorted(rows, [0.01 * rows[-1], 0.99 * rows[-1]])
    x0, x1 = np.searchsorted(columns, [0.01 * columns[-1], 0.99 * columns[-1]])
    return float(x0), float(y0), float(x1 + 1), float(y1 + 1)


def _main_parts(plane: Plane, near: Mask) -> Plane:
    """Keep the parts of a map that lie on `near` for the most part, or are a fair share of the largest such part."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((plane > 0).astype(np.uint8))
    if count < 2:
        return plane
    on = np.bincount(labels[near], minlength=count)
    on[0] = 0
    sizes = stats[:, cv2.CC_STAT_AREA]
    keep = (on > 0.3 * sizes) & (on > 0.05 * on.max())
    keep[0] = True
    return np.where(keep[labels], plane, -np.abs(plane))
