"""Deep pixels to 8 bits: integers of more than 8 bits and floats, whose file does not say which value is white.

The values themselves tell: a photograph's brightest pixel lies in the upper part of its range. So a range is taken
where it is clear, and refused where several are possible; a wrong guess would make a white or black picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffpdata.core.errors import Reject

WHITES = (255.0, 65535.0)
"""White of 8-bit and 16-bit values, which also wider types and floats hold."""
LEAST_PEAK = 0.25
"""The brightest pixel reaches this part of white: 10, 12 and 14 bits in 16 do not, and neither do labels."""
LEAST_MEAN = 0.02
"""The mean of a float picture reaches this part of white: scene light (HDR) with few bright spots does not."""
OVERSHOOT = 0.05
"""Floats that were resampled pass black and white by a little, which is cut off."""

_ADVICE = "write it as 8-bit, or as 16-bit over the full range of 0 to 65535"


def to_8_bits(values: NDArray[Any], *, bits: int = 0, inverted: bool = False) -> NDArray[np.uint8]:
    """Scale one channel to 0..255 by the range that its values show.

    Args:
        values: integers or floats (H, W).
        bits: significant bits of an integer where the file states a number below that of its type (12 in 16).
        inverted: 0 is white.

    Returns:
        uint8 (H, W).

    Raises:
        Reject: `unclear_range`, `not_finite`.
    """
    white = _white_of_floats(values) if values.dtype.kind == "f" else _white_of_integers(values, bits)
    shares = values.astype(np.float64)  # then in place: it may be 300 MB
    shares /= white
    np.clip(shares, 0, 1, out=shares)
    if inverted:
        np.subtract(1, shares, out=shares)
    shares *= 255
    scaled: NDArray[np.uint8] = shares.round(out=shares).astype(np.uint8)
    return scaled


def _white_of_integers(values: NDArray[Any], bits: int) -> float:
    low, high = int(values.min()), int(values.max())
    if low < 0:
        raise Reject("unclear_range", f"its values go from {low} to {high}, below black: {_ADVICE}")
    if 8 < bits < 16:
        return float(2**bits - 1)
    white = next((w for w in WHITES if high <= w), 0.0)
    if not high or high >= LEAST_PEAK * white > 0:
        return white
    raise Reject("unclear_range", f"its values end at {high}, which is white in no usual range: {_ADVICE}")


def _white_of_floats(values: NDArray[Any]) -> float:
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise Reject("not_finite", f"{bad} of {values.size} values are NaN or infinite: fill them, and {_ADVICE}")
    low, high, mean = float(values.min()), float(values.max()), float(values.mean(dtype=np.float64))
    white = next((w for w in (1.0, *WHITES) if high <= w * (1 + OVERSHOOT)), 0.0)
    plain = white == 1.0 or (high >= LEAST_PEAK * white and mean >= LEAST_MEAN * white)
    if white and plain and low >= -OVERSHOOT * white:
        return white
    found = f"its float values go from {low:.4g} to {high:.4g}, {mean:.4g} on average"
    raise Reject("unclear_range", f"{found}, which is none of 0..1, 0..255 and 0..65535: {_ADVICE}")
