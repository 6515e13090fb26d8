"""What an edit changed, in numbers: inside its mask, outside, or all over a restyled clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata.media.flow import warp_error
from ffpdata.models.classical.attributes import look, palette
from ffpdata.models.classical.colour import to_lab

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Clip = NDArray[np.uint8]
    Masks = NDArray[np.bool_]
    Map = NDArray[Any]

SIDE = 360
"""Long side, in pixels, at which frames are compared."""
PAIRS = 6
"""Pairs of neighbouring frames in which steadiness is measured."""
SMALLEST = 16
"""Side, in pixels, below which there is no optical flow."""
PLAIN = 2.0
"""Deviation of grey levels below which a region is too plain to have a structure."""
CHANGED = 8.0
"""CIELAB distance from which a pixel counts as changed."""


@dataclass(frozen=True)
class LocalChange:
    """What happened inside a mask.

    Attributes:
        change: mean CIELAB distance inside the mask.
        part: part of the mask's pixels that changed by more than `CHANGED`.
        structure: correlation of the light-and-dark pattern inside, -1..1: high where the object kept its shape and
            marks, and 1 where neither clip has any.
        outside: mean CIELAB distance away from the mask.
        unsteady: how much more the target departs from its own motion inside the mask, grey levels 0..255.
        before, after: main colour names of the changed pixels in the source and in the target.
        light, chroma: change of mean CIELAB lightness and chroma of the changed pixels.
    """

    change: float = 0.0
    part: float = 0.0
    structure: float = 0.0
    outside: float = 0.0
    unsteady: float = 0.0
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    light: float = 0.0
    chroma: float = 0.0


@dataclass(frozen=True)
class GlobalChange:
    """What happened to a whole clip.

    Attributes:
        change: mean CIELAB distance.
        structure: correlation of the two clips' edges, -1..1.
        unsteady: how much more the target departs from its own motion, grey levels 0..255.
        approach: part of the way from the source's colours (mean and spread) to the reference's that the target has
            gone; 1 is all of it, 0 none, negative is away; 1 without a reference.
    """

    change: float
    structure: float
    unsteady: float
    approach: float = 1.0


def measure_local(source: Clip, target: Clip, masks: Masks) -> LocalChange | None:
    """Measure an edit of what `masks`, bool (T, H, W), cover; None where they are empty or do not fit the clips."""
    if source.shape != target.shape or masks.shape != source.shape[:3]:
        return None
    was, now, where = look(source, SIDE), look(target, SIDE), look(masks, SIDE)
    if not where.any():
        return None
    labs = to_lab(was), to_lab(now)
    distance = np.linalg.norm(labs[0] - labs[1], axis=-1)
    reach = max(3, SIDE // 24)
    near = (
        np.stack([cv2.dilate(m.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) for m in where]) > 0
    )
    changed = where & (distance > CHANGED)
    told = changed if changed.any() else where
    return LocalChange(
        change=float(distance[where].mean()),
        part=float(changed.sum() / where.sum()),
        structure=_pattern(labs[0][..., 0], labs[1][..., 0], where),
        outside=float(distance[~near].mean()) if not near.all() else 0.0,
        unsteady=unsteadiness(source, target, masks),
        before=tuple(palette(was[told], most=2, least=0.25)),
        after=tuple(palette(now[told], most=2, least=0.25)),
        light=float((labs[1][told][:, 0] - labs[0][told][:, 0]).mean()),
        chroma=float((np.hypot(*labs[1][told].T[1:]) - np.hypot(*labs[0][told].T[1:])).mean()),
    )


def measure_global(source: Clip, target: Clip, reference: Clip | None = None) -> GlobalChange | None:
    """Measure a restyled clip, uint8 (T, H, W, 3), against its source and the reference image; None if sizes differ."""
    if source.shape != target.shape:
        return None
    was, now = look(source, SIDE), look(target, SIDE)
    labs = to_lab(was), to_lab(now)
    edges = [np.stack([_edges(frame) for frame in clip[..., 0]]) for clip in labs]
    approach = 1.0
    if reference is not None:
        goal, start, end = (_spread(lab) for lab in (to_lab(look(reference, SIDE)), *labs))
        way = float(np.linalg.norm(start - goal))
        approach = 1 - float(np.linalg.norm(end - goal)) / way if way > 3 else 1.0
    return GlobalChange(
        change=float(np.linalg.norm(labs[0] - labs[1], axis=-1).mean()),
        structure=_correlation(edges[0], edges[1]),
        unsteady=unsteadiness(source, target),
        approach=approach,
    )


def unsteadiness(source: Clip, target: Clip, masks: Masks | None = None) -> float:
    """How much more the target than the source departs from its own motion, grey levels 0..255, never below 0."""
    if len(source) < 2 or min(source.shape[1:3]) < SMALLEST:
        return 0.0
    pairs = np.unique(np.linspace(0, len(source) - 2, PAIRS).round().astype(int)).tolist()
    return max(0.0, warp_error(target, masks, pairs=pairs) - warp_error(source, masks, pairs=pairs))


def _pattern(was: Map, now: Map, where: Masks) -> float:
    """Correlate the fine pattern of lightness inside the masks."""
    fine = [np.stack([frame - cv2.GaussianBlur(frame, (0, 0), 6) for frame in clip])[where] for clip in (was, now)]
    if max(part.std() for part in fine) < PLAIN:
        return 1.0
    return _correlation(fine[0], fine[1])


def _correlation(first: Map, second: Map) -> float:
    deviations = float(first.std()), float(second.std())
    if min(deviations) < 1e-6:
        return 0.0
    return float(((first - first.mean()) * (second - second.mean())).mean()) / (deviations[0] * deviations[1])


def _edges(light: Map) -> Map:
    """Strength of the edges of a lightness picture, float32 (h, w)."""
    soft = cv2.GaussianBlur(light, (0, 0), 1.2)
    return cv2.GaussianBlur(np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)), (0, 0), 1.5)


def _spread(lab: Map) -> Map:
    """Mean and standard deviation of CIELAB values, (6,)."""
    flat = lab.reshape(-1, 3)
    return np.concatenate([flat.mean(axis=0), flat.std(axis=0)])
