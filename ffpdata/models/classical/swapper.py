"""Recolour the object: the only local change that is convincing without a trained model.

The dominant colour of the object is mapped to another; other hues stay (the tyres of a red motorcycle remain black).
One map is used for the whole clip, so that it does not flicker; lightness follows a power curve that keeps black and
white, and variations of hue and chroma stay, which preserves texture and shading.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.core.errors import Reject
from ffpdata.models.classical.colour import NAMES, dominant_colour, name_pixels, to_lab, to_rgb
from ffpdata.models.protocols import Edit
from ffpdata.models.settings import BackendSettings, parse_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.classical.colour import Lab

    Frames = NDArray[np.uint8]
    Image = NDArray[np.uint8]
    Masks = NDArray[np.bool_]

TARGETS = {
    "red": (48.0, 62.0, 42.0),
    "orange": (66.0, 42.0, 66.0),
    "yellow": (84.0, 2.0, 74.0),
    "green": (54.0, -48.0, 40.0),
    "cyan": (74.0, -36.0, -18.0),
    "blue": (42.0, 14.0, -58.0),
    "purple": (42.0, 46.0, -48.0),
    "pink": (70.0, 48.0, -2.0),
}
"""New colours, in CIE Lab."""

NEUTRAL_CHROMA = 12.0
"""Below this median chroma an object has no hue: it is tinted instead."""

VIVID_CHROMA = 45.0
VIVID_PART = 0.1
"""A colour of at least this chroma on at least this part of an object is recoloured, e.g. the red of a motorcycle that
is mostly chrome."""

PLAIN_PART = 0.45
"""A paler colour must cover at least this part: otherwise it may be skin or shadow."""

UNIFORM_PART = 0.9
"""An object with one hue on at least this part is recoloured as a whole, including highlights."""

SAMPLES = 8
"""Frames on which the object's colour is measured."""


class RecolourSettings(BackendSettings):
    """Settings of `Recolour`."""

    min_hue_step: float = 75.0
    """Smallest angle between the old and the new hue, in degrees of the Lab plane."""
    hue_tolerance: float = 40.0
    """Pixels within this angle of the object's hue are recoloured fully; the effect fades out at 1.6 times that."""
    light_pull: float = 0.45
    """Share of the new colour's lightness: 0 keeps the old lightness, 1 uses the new."""
    feather_px: float = 1.5
    """Softness of the region's edge on a 720-line clip."""
    min_delta_e: float = 18.0
    """Smallest distance between the changed part's mean colours before and after, in CIE76 units."""


class Recolour:
    """The embedded swapper: an `Inpainter` whose edits are always modifications."""

    name = "recolour"
    version = 1
    tasks = ("swap",)
    Settings = RecolourSettings

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)

    def close(self) -> None:
        """Do nothing: no process and no memory is held."""

    def edit(
        self,
        frames: Frames,
        masks: Masks,
        *,
        prompt: str = "",  # noqa: ARG002 - the role's signature
        negative: str = "",  # noqa: ARG002
        reference: Image | None = None,  # noqa: ARG002
        seed: int = 0,
    ) -> Edit:
        """Recolour the masked object. `seed` chooses the new colour.

        Args:
            frames: uint8 (T, H, W, 3) RGB.
            masks: bool (T, H, W), True on the object.
            prompt: not used.
            negative: not used.
            reference: not used.
            seed: any integer.

        Returns:
            The clip, and `delta_e` (CIE76 distance of the changed part's mean colour), `coloured` (part of the object
            that changes), `hue_from` and `hue_to` in degrees.

        Raises:
            Reject: `object_unseen` for an empty mask, `no_dominant_colour`, `colour_unchanged`.
        """
        settings = self.settings
        pixels = _sample(frames, masks)
        if len(pixels) < 64:
            raise Reject("object_unseen", f"the mask holds {len(pixels)} pixels on {SAMPLES} frames, at least 64")
        name, (light, a, b), min_part = _colour_to_change(pixels)
        chroma, hue = math.hypot(a, b), math.degrees(math.atan2(b, a))
        neutral = chroma < NEUTRAL_CHROMA
        target = self._target(name, None if neutral else hue, seed)
        colour_map = _ColourMap(light, chroma, hue, TARGETS[target], neutral=neutral, settings=settings)

        coloured = colour_map.fit(to_lab(pixels))
        if coloured < min_part:
            detail = f"only {coloured:.2f} of the object is {name}, at least {min_part}: too many colours to turn one"
            raise Reject("no_dominant_colour", detail)
        out = frames.copy()
        for index in range(len(frames)):
            _paint(out[index], masks[index], colour_map, settings.feather_px * min(frames.shape[1:3]) / 720)
        before, after = to_lab(pixels), to_lab(_sample(out, masks))
        changed = colour_map.weight(before) > 0.5
        delta = float(np.linalg.norm(before[changed].mean(0) - after[changed].mean(0))) if changed.any() else 0.0
        if delta < settings.min_delta_e:
            raise Reject("colour_unchanged", f"colour distance {delta:.1f}, at least {settings.min_delta_e}")
        facts = {"delta_e": delta, "coloured": coloured, "hue_from": hue % 360, "hue_to": colour_map.hue % 360}
        return Edit(out, {k: round(v, 4) for k, v in facts.items()})

    def _target(self, name: str, hue: float | None, seed: int) -> str:
        """Choose the new colour, with another name and a distant hue."""
        far = [
            target
            for target, (_, a, b) in TARGETS.items()
            if target != name
            and (hue is None or abs(_angle(math.degrees(math.atan2(b, a)) - hue)) >= self.settings.min_hue_step)
        ]
        return far[np.random.default_rng(seed).integers(len(far))]


class _ColourMap:
    """The map from the old colour to the new one, in CIE Lab."""

    def __init__(
        self,
        light: float,
        chroma: float,
        hue: float,
        target: tuple[float, float, float],
        *,
        neutral: bool,
        settings: RecolourSettings,
    ) -> None:
        self._from_hue, self._neutral, self._settings = hue, neutral, settings
        target_light, a, b = target
        self.hue = math.degrees(math.atan2(b, a))
        self._chroma = math.hypot(a, b)
        self._gain = float(np.clip(self._chroma / max(chroma, 1.0), 0.6, 1.6))
        self._uniform = True
        self._vividness = max(chroma, 1.0) / (light + 5)
        light = min(max(light, 6.0), 94.0)
        new_light = min(max(light + settings.light_pull * (target_light - light), 12.0), 88.0)
        self._power = math.log(new_light / 100) / math.log(light / 100)

    def weight(self, lab: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the weight of the change for each pixel of (..., 3) Lab, 0..1."""
        chroma = np.hypot(lab[..., 1], lab[..., 2])
        if self._neutral:
            return np.clip((2.2 * NEUTRAL_CHROMA - chroma) / NEUTRAL_CHROMA, 0, 1)
        hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
        distance = np.abs((hue - self._from_hue + 180) % 360 - 180)
        tolerance = self._settings.hue_tolerance
        near = np.clip((1.6 * tolerance - distance) / (0.6 * tolerance), 0, 1)
        near *= np.clip((chroma - 3) / 6, 0, 1)
        if self._uniform:
            return near
        # Shading lowers chroma and lightness together: their ratio separates paint from pale colours, as skin.
        vivid = chroma / (lab[..., 0] + 5) / self._vividness
        return near * np.clip((vivid - 0.45) / 0.15, 0, 1)

    def fit(self, lab: NDArray[np.float32]) -> float:
        """Adapt to the object's pixels, (N, 3) Lab, and return the part of them that will change."""
        self._uniform = True
        part = float(self.weight(lab).mean())
        self._uniform = part >= UNIFORM_PART
        return part if self._uniform else float(self.weight(lab).mean())

    def apply(self, lab: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the new colours, float32 Lab, at weight 1."""
        light = np.clip(lab[..., 0], 0, 100) / 100
        light_out = 100 * light**self._power
        chroma = np.hypot(lab[..., 1], lab[..., 2])
        if self._neutral:
            hue = np.full_like(chroma, math.radians(self.hue))
            new = 0.75 * self._chroma * np.clip(4 * light * (1 - light), 0, 1) ** 0.6
        else:
            old = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
            spread = (old - self._from_hue + 180) % 360 - 180
            hue = np.radians(self.hue + 0.4 * np.clip(spread, -45, 45))
            new = chroma * self._gain
        return np.stack([light_out, new * np.cos(hue), new * np.sin(hue)], axis=-1).astype(np.float32)


def _paint(frame: Frames, mask: Masks, colour_map: _ColourMap, feather: float) -> None:
    """Recolour one frame in place, inside the mask's box only."""
    if not mask.any():
        return
    grow = math.ceil(3 * feather) + 2
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    top, left = max(0, y - grow), max(0, x - grow)
    area = np.s_[top : y + height + grow, left : x + width + grow]
    # The antialiased rim belongs to the object too; background of another hue has a low weight.
    rim = 2 * math.ceil(feather) + 1
    wide = cv2.dilate(mask[area].astype(np.float32), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim, rim)))
    soft = cv2.GaussianBlur(wide, (0, 0), max(0.4, feather))
    lab = to_lab(frame[area])
    # Chroma is noisy in compressed video: without the blur the weight would have specks.
    weight = cv2.GaussianBlur(colour_map.weight(lab), (0, 0), max(0.6, feather)) * soft
    changed = lab + weight[..., None] * (colour_map.apply(lab) - lab)
    touched = weight > 1e-3
    frame[area][touched] = to_rgb(changed[touched])


def _colour_to_change(pixels: NDArray[np.uint8]) -> tuple[str, Lab, float]:
    """Choose the colour to change: a vivid one, even on a small part, or else the dominant one.

    Returns:
        The colour's name, its median Lab, and the smallest part of the object that its change must reach.
    """
    flat = pixels[:: max(1, len(pixels) // 20_000)]
    names = name_pixels(flat)
    counts = np.bincount(names, minlength=len(NAMES)) / len(flat)
    for index in np.argsort(-counts):
        if counts[index] < VIVID_PART:
            break
        name, lab = dominant_colour(flat[names == index])
        if math.hypot(lab[1], lab[2]) >= VIVID_CHROMA:
            return name, lab, VIVID_PART
    return *dominant_colour(pixels), PLAIN_PART


def _sample(frames: Frames, masks: Masks) -> NDArray[np.uint8]:
    """Return the object's pixels (N, 3) on `SAMPLES` frames."""
    picks = np.unique(np.linspace(0, len(frames) - 1, SAMPLES).astype(int))
    return np.concatenate([frames[i][masks[i]] for i in picks])


def _angle(degrees: float) -> float:
    """Fold an angle into -180..180."""
    return (degrees + 180) % 360 - 180
