"""Patterns as functions of coordinates on a surface: 1 where the pattern's own colour is, 0 on the ground between."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

PERIOD = 0.3
"""Distance from one stripe, dot or field to the next, of the object's size."""


def stripes(at: Plane, turn: float) -> Plane:
    """Return parallel stripes at an angle of `turn` radians on coordinates (h, w, 2)."""
    return _smooth(0.25 - np.abs(_phase(_turned(at, turn)[0] / PERIOD)), at)


def dots(at: Plane, turn: float) -> Plane:
    """Return round dots in rows."""
    u, v = (_phase(part / PERIOD) for part in _turned(at, turn))
    return _smooth(0.3 - np.hypot(u, v), at)


def checks(at: Plane, turn: float) -> Plane:
    """Return the fields of a checkerboard."""
    u, v = (part / PERIOD for part in _turned(at, turn))
    return _smooth(0.25 * np.sin(np.pi * u) * np.sin(np.pi * v) / np.float32(0.5), at)


def lower_half(at: Plane, turn: float) -> Plane:  # noqa: ARG001 - as the others
    """Return the half below the object's centre."""
    return _smooth(at[..., 1] / PERIOD, at)


PATTERNS: dict[str, Callable[[Plane, float], Plane]] = {"stripes": stripes, "dots": dots, "checks": checks}
"""Name, which is also the word for it, to function."""


def _turned(at: Plane, turn: float) -> tuple[Plane, Plane]:
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    return c * at[..., 0] + s * at[..., 1], c * at[..., 1] - s * at[..., 0]


def _phase(value: Plane) -> Plane:
    """Return the distance from the nearest whole number, with its sign, -0.5..0.5."""
    out: Plane = value - np.rint(value)
    return out


def _smooth(inside: Plane, at: Plane) -> Plane:
    """Return 0..1 from a distance in periods, positive inside, over about a pixel and a half."""
    step = float(np.median(np.abs(np.diff(at[..., 0], axis=1)))) if at.shape[1] > 1 else 0.01
    width = np.float32(max(1e-3, 1.5 * step / PERIOD))
    return np.clip(inside / width + np.float32(0.5), 0, 1).astype(np.float32)
