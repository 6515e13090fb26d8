"""Kinds of defects, each at two strengths, injected into a pair: what people reject, made on purpose.

A kind is a function of a pair and a strength, 0 (weak) or 1 (strong); it returns the damaged pair, or None where the
kind does not apply to the task. Lengths in pixels are those of a 720p frame.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

Frames = np.ndarray
LOCAL, ALL = "local", "all"


@dataclass(frozen=True)
class Example:
    """One pair: uint8 (T, H, W, 3) clips, bool (T, H, W) masks or None, its row, and its style image."""

    source: Frames
    target: Frames
    outline: Frames | None
    region: Frames | None
    columns: dict[str, Any] = field(default_factory=dict)
    reference: Frames | None = None

    @property
    def task(self) -> str:
        """Task of the pair."""
        return str(self.columns["task"])

    def px(self, length: float) -> float:
        """Pixels of this clip for those of a 720p frame, at least 1."""
        return max(1.0, length * min(self.source.shape[1:3]) / 720)

    def show(self, target: Frames) -> Example:
        """Return the pair with another target, of any number type."""
        return replace(self, target=np.clip(np.rint(target), 0, 255).astype(np.uint8))

    def where(self) -> Frames:
        """The object in every frame; the whole picture of a stylization."""
        return np.ones(self.source.shape[:3], bool) if self.outline is None else self.outline

    @property
    def rng(self) -> np.random.Generator:
        """The same numbers every time."""
        return np.random.default_rng(7)


OPPOSITE = {
    "red": "cyan",
    "orange": "blue",
    "yellow": "purple",
    "green": "pink",
    "cyan": "red",
    "blue": "orange",
    "purple": "yellow",
    "pink": "green",
    "brown": "cyan",
    "black": "pink",
    "white": "purple",
    "grey": "orange",
}
"""Colour to one that nobody would take for it."""

Kind = Callable[[Example, int], "Example | None"]


def _blend(example: Example, frames: Any, share: float) -> Example:
    target = example.target.astype(np.float32)
    target[frames] += share * (example.source[frames].astype(np.float32) - target[frames])
    return example.show(target)


def unedited_first(example: Example, strength: int) -> Example:
    return _blend(example, slice(0, (1, 3)[strength]), 1.0)


def frozen_part(example: Example, strength: int) -> Example:
    count = len(example.target)
    start = count - round(count * (0.25, 0.5)[strength])
    return replace(example, target=example.target[np.minimum(np.arange(count), start)])


def dropped_frame(example: Example, strength: int) -> Example:
    count, middle = len(example.target), len(example.target) // 2
    order = np.arange(count)
    order[middle:] += (1, 3)[strength]
    return replace(example, target=example.target[np.minimum(order, count - 1)])


def doubled_frame(example: Example, strength: int) -> Example:
    count, middle = len(example.target), len(example.target) // 3
    order = np.arange(count)
    order[middle:] -= (1, 3)[strength]
    return replace(example, target=example.target[np.maximum(order, np.minimum(np.arange(count), middle - 1))])


def swapped_frames(example: Example, strength: int) -> Example:
    order = np.arange(len(example.target))
    for at in ((len(order) // 2,), (len(order) // 4, len(order) // 2, 3 * len(order) // 4))[strength]:
        order[[at, at + 1]] = order[[at + 1, at]]
    return replace(example, target=example.target[order])


def shifted_frame(example: Example, strength: int) -> Example:
    target = example.target.copy()
    at, by = len(target) // 2, example.px((5, 14)[strength])
    target[at] = _moved(target[at], by, by / 2)
    return replace(example, target=target)


def late(example: Example, strength: int) -> Example:
    order = np.maximum(np.arange(len(example.target)) - (1, 3)[strength], 0)
    return replace(example, target=example.target[order])


def flicker(example: Example, strength: int) -> Example:
    gains = example.rng.normal(0, (3, 8)[strength], len(example.target))
    return example.show(example.target.astype(np.float32) + gains[:, None, None, None].astype(np.float32))


def colour_drift(example: Example, strength: int) -> Example:
    ramp = np.linspace(0, 1, len(example.target), dtype=np.float32)[:, None, None, None]
    cast = np.array([1.0, -0.2, -0.8], np.float32) * (10, 24)[strength]
    return example.show(example.target + ramp * cast)


def blur(example: Example, strength: int) -> Example:
    sigma = max(0.8, example.px((2.2, 4.5)[strength]))
    return example.show(np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in example.target]))


def blocking(example: Example, strength: int) -> Example:
    quality = [cv2.IMWRITE_JPEG_QUALITY, (18, 7)[strength]]
    coded = [cv2.imdecode(cv2.imencode(".jpg", f, quality)[1], cv2.IMREAD_COLOR) for f in example.target]
    return example.show(np.stack(coded))


def halo(example: Example, strength: int) -> Example | None:
    if example.outline is None:
        return None
    width, target = round(example.px(8)), example.target.astype(np.float32)
    for frame, mask in zip(target, example.outline, strict=True):
        band = _grown(mask, max(2, width)) & ~mask
        frame[band] += (0.3, 0.7)[strength] * (235 - frame[band])
    return example.show(target)


def ghost(example: Example, strength: int) -> Example:
    share = (0.3, 0.6)[strength]
    if example.outline is None:  # the picture of some frames ago shines through
        order = np.maximum(np.arange(len(example.target)) - 4, 0)
        return example.show((1 - share) * example.target + share * example.target[order].astype(np.float32))
    target, by = example.target.astype(np.float32), round(example.px(24))
    if example.task in {"removal", "text_removal"}:
        where = np.stack([_grown(mask, 1) for mask in example.outline])
        target[where] += share * (example.source[where] - target[where])
        return example.show(target)
    # Of an object that stays a second one, as it was, beside it.
    beside = np.roll(example.outline, by, axis=2) & ~example.outline
    target[beside] += share * (np.roll(example.source, by, axis=2)[beside] - target[beside])
    return example.show(target)


def spill(example: Example, strength: int) -> Example | None:
    """The edit's mean change of colour on a patch beside the object as well."""
    if example.outline is None:
        return None
    target = example.target.astype(np.float32)
    edit = (target - example.source)[example.outline].mean(axis=0)
    edit = edit if np.abs(edit).max() > 12 else np.array([30.0, -20, 10])
    height, width = example.outline.shape[1:]
    side = round(example.px((60, 140)[strength]))
    for frame, mask, region in zip(target, example.outline, example.region, strict=True):  # type: ignore[arg-type]
        if not mask.any():
            continue
        xs = np.nonzero((mask | region).any(axis=0))[0]
        left = xs.max() + 4 if xs.max() + 4 + side < width else max(0, xs.min() - 4 - side)
        top = min(max(0, int(np.nonzero(mask.any(axis=1))[0].mean()) - side // 2), height - side)
        patch = np.zeros(mask.shape, bool)
        patch[top : top + side, left : left + side] = True
        frame[patch & ~region] += edit
    return example.show(target)


def lost_outline(example: Example, strength: int) -> Example | None:
    """The outline is gone for a third of the clip, or stands still for the half of it while its object goes on."""
    if example.outline is None or example.region is None:
        return None
    count = len(example.outline)
    outline, region = example.outline.copy(), example.region
    if strength == 0:
        outline[count - count // 3 :] = False
    else:
        outline[count // 2 :] = outline[count // 2]
    return replace(example, outline=outline, region=region)


def lost_edit(example: Example, strength: int) -> Example | None:
    """As `lost_outline`, and the edit is lost with it: for half the clip the object is as it was and has no outline."""
    if example.outline is None or example.region is None:
        return None
    start = len(example.outline) - round(len(example.outline) * (0.35, 0.5)[strength])
    outline, region = example.outline.copy(), example.region.copy()
    outline[start:], region[start:] = False, False
    return replace(_blend(example, slice(start, None), 1.0), outline=outline, region=region)


def edit_missing(example: Example, strength: int) -> Example:
    third = len(example.target) // 3
    return _blend(example, slice(third, 2 * third), (0.6, 1.0)[strength])


def wrong_task(example: Example, strength: int) -> Example:
    thing = example.columns.get("object") or "object"
    other = {
        "removal": (f"Change the colour of the {thing} from red to blue.", f"Replace the {thing} with a wooden box."),
        "modification": (f"Remove the {thing} from the video.", "Restyle the whole video as a pencil drawing."),
        "swap": (f"Remove the {thing} from the video.", "Restyle the whole video as a pencil drawing."),
        "stylization": ("Change the colour of the ball from red to green.", "Remove the person from the whole video."),
    }
    return replace(example, columns=example.columns | {"instruction": other[example.task][strength]})


def wrong_colour(example: Example, strength: int) -> Example | None:
    """Another colour for the last that is named (weak), or for all of them (strong)."""
    text = str(example.columns["instruction"])
    found = list(re.finditer(rf"\b({'|'.join(OPPOSITE)})\b", text))
    for match in found[::-1][: 1 if strength == 0 else None]:
        text = text[: match.start()] + OPPOSITE[match.group()] + text[match.end() :]
    return replace(example, columns=example.columns | {"instruction": text}) if found else None


def wrong_style(example: Example, strength: int) -> Example | None:
    """The style image of another look: with its colours exchanged (weak), or their negative (strong)."""
    if example.reference is None or example.task != "stylization":
        return None
    exchanged = example.reference[..., [2, 0, 1]]
    return replace(example, reference=np.ascontiguousarray(255 - exchanged if strength else exchanged))


def noise(example: Example, strength: int) -> Example:
    grain = example.rng.normal(0, (6, 14)[strength], example.target.shape)
    return example.show(example.target + grain.astype(np.float32))


def misaligned(example: Example, strength: int) -> Example:
    by = (1.0, 2.0)[strength]
    return example.show(np.stack([_moved(f, by, 0) for f in example.target]))


def smear(example: Example, strength: int) -> Example:
    length = round(example.px((30, 70)[strength]))
    kernel = np.ones((1, max(5, length)), np.float32) / max(5, length)
    target = example.target.copy()
    for t, mask in enumerate(example.where()):
        smeared = cv2.filter2D(target[t], -1, kernel)
        target[t][mask] = smeared[mask]
    return example.show(target)


def weak_edit(example: Example, strength: int) -> Example:
    """So little of the edit that nobody would see it."""
    return _blend(example, slice(None), (0.85, 0.95)[strength])


# --- kinds that the shipped score was not fitted on ---


def torn(example: Example, strength: int) -> Example:
    """The lower half of the picture is late."""
    target = example.target.copy()
    half, by = target.shape[1] // 2, (2, 5)[strength]
    target[by:, half:] = example.target[:-by, half:]
    return replace(example, target=target)


def dark_dip(example: Example, strength: int) -> Example:
    """The picture grows darker and light again within a few frames."""
    count, middle = len(example.target), len(example.target) // 2
    dip = np.exp(-0.5 * ((np.arange(count) - middle) / 1.5) ** 2) * (0.12, 0.3)[strength]
    return example.show(example.target * (1 - dip.astype(np.float32))[:, None, None, None])


def sharpened(example: Example, strength: int) -> Example:
    amount = (1.5, 4.0)[strength]
    soft = [cv2.GaussianBlur(f, (0, 0), 1.2).astype(np.float32) for f in example.target]
    return example.show(example.target + amount * (example.target - np.stack(soft)))


def strobe(example: Example, strength: int) -> Example:
    """Every few frames one is the source's."""
    return _blend(example, slice(3, None, (9, 4)[strength]), 0.8)


def pixelated(example: Example, strength: int) -> Example:
    side = (4, 8)[strength]
    height, width = example.target.shape[1:3]
    small = [cv2.resize(f, (width // side, height // side), interpolation=cv2.INTER_AREA) for f in example.target]
    return example.show(np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_NEAREST) for f in small]))


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        *(unedited_first, frozen_part, dropped_frame, doubled_frame, swapped_frames, shifted_frame, late, flicker),
        *(colour_drift, blur, blocking, halo, ghost, spill, lost_outline, lost_edit, edit_missing, wrong_task),
        *(wrong_colour, wrong_style, noise, misaligned, smear, weak_edit),
    )
}
HELD_OUT: dict[str, Kind] = {kind.__name__: kind for kind in (torn, dark_dip, sharpened, strobe, pixelated)}


def _moved(frame: Frames, x: float, y: float) -> Frames:
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
    size = frame.shape[1::-1]
    return cv2.warpAffine(frame, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _grown(mask: Frames, px: int) -> Frames:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * px + 1, 2 * px + 1), np.uint8)) > 0
