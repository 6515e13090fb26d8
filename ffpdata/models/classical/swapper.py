"""Change how the object looks: the only local change that is convincing without a trained model.

What suits is chosen by the object's measured colours: another colour, stripes, dots or checks that stick to it, two
colours, a darker or lighter tone, or grey. Only the part that carries the object's paint changes, so that the tyres of
a red motorcycle remain black; its shadow on the ground stays as it is. A material covers all of an object, whatever its
colours. One map serves the whole clip, so that it does not flicker, and shading and texture stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from ffpdata.core.errors import Reject
from ffpdata.models.classical.colour import to_lab, to_rgb
from ffpdata.models.classical.modification.body import without_shadow
from ffpdata.models.classical.modification.colour_map import PaintedPart, find_paint
from ffpdata.models.classical.modification.looks import LOOKS, Look, suiting
from ffpdata.models.classical.modification.materials import MATERIALS
from ffpdata.models.classical.modification.patterns import lower_half
from ffpdata.models.classical.modification.surface import Surface
from ffpdata.models.protocols import Edit
from ffpdata.models.settings import BackendSettings, parse_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec

    Frames = NDArray[np.uint8]
    Image = NDArray[np.uint8]
    Masks = NDArray[np.bool_]
    Plane = NDArray[np.float32]
    Area = tuple[slice, slice]

LookName = Literal[
    "recolour", "stripes", "dots", "checks", "two_colours", "darker", "lighter", "grey",
    "gold", "bronze", "marble", "jade",
]  # fmt: skip
SAMPLES = 8
"""Frames on which the object's colour is measured."""
LEAST_PIXELS = 64
"""Fewest pixels of an object on these frames."""
MOST_TRIED = 3
"""Most looks that are tried, until one is clear enough."""
MOST_SHADE = 0.1
"""Share of an outline that looks like shadow, above which no material is taken: dark parts would stay as they were."""
LEAST_HALF = 0.25
"""Smallest share of an object in two colours that each of them covers in every frame: on what turns too fast to follow,
one half slides over the other."""
FADES = 0.5
"""Smallest share of the object that must change in each frame, of that in the middle one of all frames."""


class RecolourSettings(BackendSettings):
    """Settings of `Recolour`."""

    looks: tuple[LookName, ...] = LOOKS
    """Looks to choose from."""
    feather_px: float = 1.5
    """Softness of the region's edge on a 720-line clip."""
    min_delta_e: float = 18.0
    """Smallest distance between the changed part's mean colours before and after, in CIE76 units."""


class Recolour:
    """The embedded swapper: an `Inpainter` whose edits are always modifications."""

    name = "recolour"
    version = 5
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
        """Give the masked object another look. `seed` chooses among those that suit.

        Args:
            frames: uint8 (T, H, W, 3) RGB.
            masks: bool (T, H, W), True on the object.
            prompt: not used.
            negative: not used.
            reference: not used.
            seed: any integer.

        Returns:
            The clip, and facts: `look_<name>` is 1 for the look it got, `new_colour_<name>` for its one new colour;
            `delta_e` (CIE76 distance of the changed part's mean colour), `painted_part` (share of the object that
            carries the changed paint), `coloured` and `coloured_least` (share of the object that changes, on average
            and in the frame with the least), `smaller_half` of two colours (share of the object, in the frame with the
            least), and `shadow_part` (share of the outline that is shadow, and stays).

        Raises:
            Reject: `object_unseen` for an empty mask, `no_dominant_colour` where no look suits, `colour_unchanged`, and
                `change_fades` where the changed part is lost in some frames.
        """
        if (seen := len(_sample(frames, masks))) < LEAST_PIXELS:
            raise Reject("object_unseen", f"the mask holds {seen} pixels on {SAMPLES} frames, at least {LEAST_PIXELS}")
        body, shadow = without_shadow(frames, masks)
        pixels = _sample(frames, body)
        if len(pixels) < LEAST_PIXELS:
            body, shadow, pixels = masks, 0.0, _sample(frames, masks)
        lab, paint = to_lab(pixels), find_paint(pixels)
        allowed = [name for name in self.settings.looks if name not in MATERIALS or shadow <= MOST_SHADE]
        looks = suiting(paint, lab, seed, allowed)
        if not looks:
            share = PaintedPart(paint, lab).share(lab)
            raise Reject(
                "no_dominant_colour",
                f"only {share:.2f} of the object is {paint.name}, at least {paint.least}: none of the looks "
                f"{', '.join(self.settings.looks)} suits it",
            )
        weak: list[str] = []
        for look in looks[:MOST_TRIED]:
            out, facts = self._painted(frames, body, look)
            if facts["delta_e"] < self.settings.min_delta_e:
                weak.append(
                    f"{look.name}: colour distance {facts['delta_e']:.1f}, at least {self.settings.min_delta_e}"
                )
            elif facts.get("smaller_half", 1.0) < LEAST_HALF:
                weak.append(f"{look.name}: the smaller half {facts['smaller_half']:.2f}, at least {LEAST_HALF}")
            else:
                break
        else:
            raise Reject("colour_unchanged", "; ".join(weak))
        if look.colour:
            facts[f"new_colour_{look.colour}"] = 1.0
        facts |= {f"look_{look.name}": 1.0, "painted_part": look.part.share(lab), "shadow_part": shadow}
        if facts["coloured_least"] < FADES * facts["coloured"]:
            raise Reject(
                "change_fades",
                f"{facts['coloured']:.2f} of the object changes on average and {facts['coloured_least']:.2f} in one "
                f"frame, at least {FADES} of that: the outline or the light changes",
            )
        return Edit(out, {name: round(value, 4) for name, value in facts.items()})

    def _painted(self, frames: Frames, body: Masks, look: Look) -> tuple[Frames, dict[str, float]]:
        """Paint all frames; return them, and how much of the object changed by how much."""
        surface = Surface(frames, body) if look.on_surface else None
        feather = self.settings.feather_px * min(frames.shape[1:3]) / 720
        out = frames.copy()
        shares, halves, totals = [], list[float](), np.zeros(7)
        for t in range(len(frames)):
            if body[t].any():
                at = partial(surface.at, t) if surface else None
                share, sums = _paint(out[t], body[t], look, at, feather)
                shares.append(share)
                totals += sums
                if surface and look.name == "two_colours":
                    halves.append(_smaller_half(surface, t, body[t]))
        before, after = totals[:3] / max(totals[6], 1e-6), totals[3:6] / max(totals[6], 1e-6)
        middle = float(np.median(shares))
        return out, {
            "delta_e": float(np.linalg.norm(after - before)),
            "coloured": middle,
            "coloured_least": float(np.quantile(shares, 0.02)),
            **({"smaller_half": float(np.quantile(halves, 0.02))} if halves else {}),
        }


def _smaller_half(surface: Surface, t: int, mask: NDArray[np.bool_]) -> float:
    """Return the share of an object that the smaller of its two halves covers in frame `t`."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    area = np.s_[y : y + height, x : x + width]
    below = float(lower_half(surface.at(t, area), 0)[mask[area]].mean())
    return min(below, 1 - below)


def _paint(
    frame: Image, mask: NDArray[np.bool_], look: Look, at: Callable[[Area], Plane] | None, feather: float
) -> tuple[float, NDArray[np.float64]]:
    """Paint one frame in place, inside the mask's box only; `at` gives the coordinates of a part of it, if needed.

    Returns:
        The share of the mask that changed, and sums over its changed pixels: CIE Lab before and after, their number.
    """
    grow = math.ceil(3 * feather) + 2
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    rows = slice(max(0, y - grow), min(mask.shape[0], y + height + grow))
    area = (rows, slice(max(0, x - grow), min(mask.shape[1], x + width + grow)))
    # The antialiased rim belongs to the object too; background of another hue has a low weight.
    rim = 2 * math.ceil(feather) + 1
    wide = cv2.dilate(mask[area].astype(np.float32), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim, rim)))
    soft = cv2.GaussianBlur(wide, (0, 0), max(0.4, feather))
    lab = to_lab(frame[area])
    new, weight = look.change(lab, at(area) if at else None)
    # Chroma is noisy in compressed video: without the blur the weight would have specks.
    weight = cv2.GaussianBlur(weight, (0, 0), max(0.6, feather)) * soft
    changed = (lab + weight[..., None] * (new - lab)).astype(np.float32)
    touched = weight > 1e-3
    if touched.any():
        frame[area][touched] = to_rgb(changed[touched])
    counted = mask[area] & (weight > 0.5)
    sums = np.concatenate([lab[counted].sum(axis=0), changed[counted].sum(axis=0), [counted.sum()]]).astype(np.float64)
    return float(counted.sum() / mask[area].sum()), sums


def _sample(frames: Frames, masks: Masks) -> NDArray[np.uint8]:
    """Return the object's pixels (N, 3) on `SAMPLES` frames."""
    picks = np.unique(np.linspace(0, len(frames) - 1, SAMPLES).astype(int))
    return np.concatenate([frames[i][masks[i]] for i in picks])
