"""Measures of an edit: changes inside its mask and outside, or of a whole stylized clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata.media.flow import warp_error
from ffpdata.models.classical.attributes import palette, sample_frames
from ffpdata.models.classical.colour import to_lab

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Clip = NDArray[np.uint8]
    Masks = NDArray[np.bool_]
    Map = NDArray[Any]

SIDE = 360
"""Long side, in pixels, at which frames are compared."""
PAIRS = 6
"""Pairs of neighbouring frames on which flicker is measured."""
SMALLEST = 16
"""Side, in pixels, below which there is no optical flow."""
PLAIN = 2.0
"""Standard deviation of grey levels below which a region has no measurable pattern."""
ALL_CHANGED = 0.85
"""Share of an object from which all of it counts as changed."""
FEWEST = 50
"""Fewest pixels on which patterns are compared."""
CHANGED = 8.0
"""CIELAB distance from which a pixel counts as changed."""


@dataclass(frozen=True)
class LocalChange:
    """Measures of a local edit.

    Attributes:
        change: mean CIELAB distance inside the mask.
        part: part of the mask's pixels that changed by more than `CHANGED`.
        structure: correlation of the fine lightness pattern of the changed pixels, -1..1: high where the object kept
            its shape and texture, and 1 where neither clip has any. Edges of a pattern painted on do not count.
        outside: mean CIELAB distance away from the mask.
        unsteady: increase of the warp error inside the mask, grey levels 0..255.
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
    """Measures of a stylized clip.

    Attributes:
        change: mean CIELAB distance.
        structure: correlation of the two clips' edges, -1..1.
        unsteady: increase of the warp error, grey levels 0..255.
        approach: relative reduction of the distance to the reference's colours (mean and spread): 1 reaches them, 0 is
            no nearer than the source, negative is farther; 1 without a reference.
    """

    change: float
    structure: float
    unsteady: float
    approach: float = 1.0


def measure_local(source: Clip, target: Clip, masks: Masks) -> LocalChange | None:
    """Measure an edit under `masks`, bool (T, H, W); None where they are empty or do not fit the clips."""
    if source.shape != target.shape or masks.shape != source.shape[:3]:
        return None
    before_frames, after_frames, where = (
        sample_frames(source, SIDE),
        sample_frames(target, SIDE),
        sample_frames(masks, SIDE),
    )
    if not where.any():
        return None
    labs = to_lab(before_frames), to_lab(after_frames)
    distance = np.linalg.norm(labs[0] - labs[1], axis=-1)
    reach = max(3, SIDE // 24)
    near = (
        np.stack([cv2.dilate(m.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) for m in where]) > 0
    )
    changed = where & (distance > CHANGED)
    compared = changed if changed.any() else where
    return LocalChange(
        change=float(distance[where].mean()),
        part=float(changed.sum() / where.sum()),
        structure=_pattern(labs[0][..., 0], labs[1][..., 0], where, changed),
        outside=float(distance[~near].mean()) if not near.all() else 0.0,
        unsteady=unsteadiness(source, target, masks),
        before=tuple(palette(before_frames[compared], most=2, least=0.25)),
        after=tuple(palette(after_frames[compared], most=2, least=0.25)),
        light=float((labs[1][compared][:, 0] - labs[0][compared][:, 0]).mean()),
        chroma=float((np.hypot(*labs[1][compared].T[1:]) - np.hypot(*labs[0][compared].T[1:])).mean()),
    )


def measure_global(source: Clip, target: Clip, reference: Clip | None = None) -> GlobalChange | None:
    """Measure a stylized clip, uint8 (T, H, W, 3), against its source and the reference image; None if sizes differ."""
    if source.shape != target.shape:
        return None
    before_frames, after_frames = sample_frames(source, SIDE), sample_frames(target, SIDE)
    labs = to_lab(before_frames), to_lab(after_frames)
    edges = [np.stack([_edges(frame) for frame in clip[..., 0]]) for clip in labs]
    approach = 1.0
    if reference is not None:
        goal, start, end = (_spread(lab) for lab in (to_lab(sample_frames(reference, SIDE)), *labs))
        distance = float(np.linalg.norm(start - goal))
        approach = 1 - float(np.linalg.norm(end - goal)) / distance if distance > 3 else 1.0
    return GlobalChange(
        change=float(np.linalg.norm(labs[0] - labs[1], axis=-1).mean()),
        structure=_correlation(edges[0], edges[1]),
        unsteady=unsteadiness(source, target),
        approach=approach,
    )


def unsteadiness(source: Clip, target: Clip, masks: Masks | None = None) -> float:
    """Return the increase of the warp error from source to target, grey levels 0..255, at least 0."""
    if len(source) < 2 or min(source.shape[1:3]) < SMALLEST:
        return 0.0
    pairs = np.unique(np.linspace(0, len(source) - 2, PAIRS).round().astype(int)).tolist()
    return max(0.0, warp_error(target, masks, pairs=pairs) - warp_error(source, masks, pairs=pairs))


def _pattern(before: Map, after: Map, where: Masks, changed: Masks) -> float:
    """Return the correlation of the fine lightness patterns of the changed pixels, -1..1.

    Where only a part changed, e.g. stripes, each part is compared within itself: the edge between them is new and says
    nothing about the object.
    """
    whole = changed.sum() >= ALL_CHANGED * where.sum() or not changed.any()
    part = where if whole else _inner(changed)
    if part.sum() < FEWEST:
        part = where if whole else changed
    within = np.ones_like(where) if whole else changed
    fine = [np.stack([_detail(*one) for one in zip(clip, within, strict=True)])[part] for clip in (before, after)]
    if max(values.std() for values in fine) < PLAIN:
        return 1.0
    return _correlation(fine[0], fine[1])


def _detail(light: Map, within: Masks) -> Map:
    """Return a lightness picture (h, w) less its local mean over the pixels `within`."""
    if within.all():
        return light - cv2.GaussianBlur(light, (0, 0), 6)
    weight = cv2.GaussianBlur(within.astype(np.float32), (0, 0), 6)
    return light - cv2.GaussianBlur(np.where(within, light, 0).astype(np.float32), (0, 0), 6) / (weight + 1e-3)


def _inner(masks: Masks) -> Masks:
    """Return masks without their rim, where two colours mix."""
    return np.stack([cv2.erode(m.astype(np.uint8), np.ones((3, 3), np.uint8)) for m in masks]) > 0


def _correlation(first: Map, second: Map) -> float:
    deviations = float(first.std()), float(second.std())
    if min(deviations) < 1e-6:
        return 0.0
    return float(((first - first.mean()) * (second - second.mean())).mean()) / (deviations[0] * deviations[1])


def _edges(light: Map) -> Map:
    """Return the edge strength of a lightness picture, float32 (h, w)."""
    soft = cv2.GaussianBlur(light, (0, 0), 1.2)
    return cv2.GaussianBlur(np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)), (0, 0), 1.5)


def _spread(lab: Map) -> Map:
    """Return the mean and standard deviation of CIELAB values, (6,)."""
    flat = lab.reshape(-1, 3)
    return np.concatenate([flat.mean(axis=0), flat.std(axis=0)])
