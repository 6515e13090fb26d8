"""The named things that a scene holds, where each of them is, and what they are on: measured by a detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ffpdata.models.classical.attributes import clear_colour
from ffpdata.models.pretrained.candidates import kinds, spoken
from ffpdata.models.pretrained.detector import Detection, area, share_inside

if TYPE_CHECKING:
    from ffpdata.models.pretrained.detector import ObjectDetector
    from ffpdata.models.protocols import Box, Frames

SURE = 0.4
"""Score from which a thing is said to be in a scene: captions name less than what is tried as a target."""
SAMPLED = 3
"""Evenly spaced frames in which things are looked for."""
SUPPORTS = ("table", "desk")
"""Labels of what other things stand on."""
UNSAID = frozenset({"box"})
"""Labels that the detector gives to whatever is square."""
_CENTRE = 0.25
"""A thing is in the middle where its centre is nearer to it than this part of half the width."""
_STAYS = 0.2
"""A thing that moves farther, of the width, has no place."""
CLEAR = 0.6
"""Share of the strip below a thing from which its colour is that of what the thing is on."""
_APART = 0.3
"""Two boxes of one name, of which less than this share of one lies in the other, are two things."""
_UNDER = 0.06
"""Height of the strip below a thing that shows what it is on, of the frame's."""


@dataclass(frozen=True)
class Thing:
    """A kind of thing that is in the scene all the time.

    Attributes:
        name: what people call it: `cup`.
        label: of the detector: `coffee cup`.
        count: how many of it there are, where the number is the same in every frame that was looked at; else 1 where
            one frame shows one alone, and 0, for several, where all show more.
        side: `left`, `right` or `middle` where one thing stays there, else empty.
        box: in the first frame, pixels; of the surest one.
    """

    name: str
    label: str
    count: int
    side: str
    box: Box


@dataclass(frozen=True)
class SceneThings:
    """What a scene holds.

    Attributes:
        things: the surest first.
        support: `table` or `desk` where the first thing stands on one, else empty.
        ground: colour of what the first thing is on, e.g. `light grey`; empty where it cannot be told.
    """

    things: tuple[Thing, ...] = ()
    support: str = ""
    ground: str = ""


def scene_things(frames: Frames, detector: ObjectDetector, first: str = "") -> SceneThings:
    """Name what is in a clip, uint8 (T, H, W, 3), or an image, (H, W, 3), all the time.

    Args:
        frames: the clip.
        detector: finds named things in a frame.
        first: name of the thing that comes first where it is there, e.g. the object that is edited.
    """
    clip = frames[None] if frames.ndim == 3 else frames
    picks = np.unique(np.linspace(0, len(clip) - 1, SAMPLED).round().astype(int))
    found = [detector.detect(clip[t], least=SURE) for t in picks]
    height, width = clip.shape[1:3]
    things = []
    for label in _labels(found):
        members = [[d for d in one if d.label in kinds(label)] for one in found]
        if label not in (*SUPPORTS, *UNSAID) and all(members):
            things.append(_thing(label, [_apart(one) for one in members], width))
    things = [thing for thing in things if thing.name != spoken("")]
    things.sort(key=lambda thing: thing.name != first)
    supports = [d for d in found[0] if d.label in SUPPORTS]
    if not things:
        return SceneThings()
    box = things[0].box
    foot = (box[0], box[3] - 0.1 * (box[3] - box[1]), box[2], box[3])
    support = next((d.label for d in supports if share_inside(foot, d.box) > 0.8), "")
    return SceneThings(tuple(things), support, _ground(clip[0], box, (height, width)))


def _labels(found: Sequence[Sequence[Detection]]) -> list[str]:
    """Return the labels of all frames, those with the highest scores first; one for each kind."""
    best: dict[str, float] = {}
    for one in (d for frame in found for d in frame):
        best[one.label] = max(best.get(one.label, 0.0), one.score)
    out: list[str] = []
    for label in sorted(best, key=lambda name: (-best[name], name)):
        if not any(label in kinds(other) for other in out):
            out.append(label)
    return out


def _apart(members: Sequence[Detection]) -> list[Detection]:
    """Return the detections of one kind that surely show different things: those that lie apart."""
    kept: list[Detection] = []
    for one in sorted(members, key=lambda d: -d.score):
        if all(max(share_inside(one.box, k.box), share_inside(k.box, one.box)) < _APART for k in kept):
            kept.append(one)
    return kept


def _thing(label: str, members: Sequence[Sequence[Detection]], width: int) -> Thing:
    counts = Counter(len(one) for one in members)
    count = next(iter(counts)) if len(counts) == 1 else 1 if min(counts) == 1 else 0
    best = max(members[0], key=lambda d: (d.score, area(d.box)))
    centres = [(d.box[0] + d.box[2]) / 2 / width for one in members for d in one]
    side = ""
    if count == 1 and max(centres) - min(centres) < _STAYS:
        off = 2 * float(np.mean(centres)) - 1
        side = "middle" if abs(off) < _CENTRE else "left" if off < 0 else "right"
    return Thing(spoken(label, best.score), label, count, side, best.box)


def _ground(frame: Frames, box: Box, size: tuple[int, int]) -> str:
    """Return the colour of the strip below a box, where the frame shows it and it has one."""
    height, width = size
    top, bottom = round(box[3] + 0.01 * height), round(box[3] + (0.01 + _UNDER) * height)
    left, right = max(0, round(box[0])), min(width, round(box[2]))
    if bottom > height or right - left < 4 or bottom - top < 2:
        return ""
    return clear_colour(frame[top:bottom, left:right], CLEAR, shades=True)
