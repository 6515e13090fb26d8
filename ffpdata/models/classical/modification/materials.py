"""Materials that an object can be turned into: one colour ramp over its lightness, so that shape and shading stay.

A ramp covers whatever colours the object has, skin and black included, where paint of one hue would not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.classical.colour import Lab

    Values = NDArray[np.float32]

GAIN = (0.8, 1.2)
"""Smallest and largest factor on an object's contrasts: less is a blur, more shows the coder's noise."""
_ENDS = (0.03, 0.97)
"""Quantiles of an object's lightness that are brought to the ends of the ramp."""


@dataclass(frozen=True)
class Material:
    """A colour ramp.

    Attributes:
        words: what an instruction calls it.
        ramp: CIE Lab of its colours by rising lightness: its shade, its body, its gloss.
    """

    words: str
    ramp: tuple[Lab, ...]


MATERIALS: dict[str, Material] = {
    "gold": Material("polished gold", ((8, 3, 8), (34, 13, 38), (66, 9, 64), (88, -2, 48), (98, -2, 10))),
    "bronze": Material("dark bronze", ((5, 2, 3), (26, 14, 20), (46, 18, 32), (68, 12, 30), (92, 2, 12))),
    "marble": Material("pale marble", ((30, 0, 1), (60, 0, 2), (82, 0, 3), (97, 0, 1))),
    "jade": Material("polished jade", ((6, -6, 2), (30, -26, 10), (54, -32, 14), (78, -20, 10), (96, -4, 2))),
}
"""Name, which is also that of the look, to material."""


class Cast:
    """A material on one object: the map of its lightness is fitted once, so that the clip does not flicker."""

    def __init__(self, material: Material, lab: Values) -> None:
        """Take a material, and pixels of the object, float32 (N, 3) CIE Lab."""
        self._ramp = np.array(material.ramp, np.float32)
        low, high = (float(value) for value in np.quantile(lab[:, 0], _ENDS))
        first, last = float(self._ramp[0, 0]) + 6, float(self._ramp[-1, 0]) - 6
        self._gain = float(np.clip((last - first) / max(high - low, 1.0), *GAIN))
        # What is narrower than the ramp lies on its body, where the material's colour is.
        body = float(self._ramp[len(self._ramp) // 2, 0])
        reach = 0.5 * self._gain * (high - low)
        middle = min(max(body, first + reach), last - reach) if first + reach < last - reach else 0.5 * (first + last)
        self._offset = middle - 0.5 * self._gain * (low + high)

    def change(self, lab: Values) -> Values:
        """Return pixels, float32 (..., 3) CIE Lab, in the material."""
        light = self._gain * lab[..., 0] + self._offset
        ends = float(self._ramp[0, 0]), float(self._ramp[-1, 0])
        light = np.clip(light, *ends)
        tint = [np.interp(light, self._ramp[:, 0], self._ramp[:, part]) for part in (1, 2)]
        return np.stack([light, *tint], axis=-1).astype(np.float32)

    def distance(self, lab: Values) -> float:
        """Return the CIE76 distance between the mean colours of pixels, (N, 3), before and after."""
        return float(np.linalg.norm(self.change(lab).mean(axis=0) - lab.mean(axis=0)))
