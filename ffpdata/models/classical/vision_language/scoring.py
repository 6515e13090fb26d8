"""Scores from measures: 0 to 10, with the faults, and a reason in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ffpdata.models.classical.vision_language.sentences import PAINTED_ON

if TYPE_CHECKING:
    from ffpdata.models.classical.vision_language.change_measures import GlobalChange, LocalChange
    from ffpdata.models.classical.vision_language.removal_measures import RemovalMeasures

REASONS = 3
"""Largest number of faults in a reason."""
PATTERN_SHARE = 0.4
"""Share of an object that stripes, dots or checks on it cover: the ground between them stays as it is."""
SAME_OBJECT = 0.5
"""Correlation of the pattern inside the mask from which the object counts as unchanged."""


@dataclass(frozen=True)
class Fault:
    """A fault of a pair: its weight, 0..1 (1 makes the score 0), and its description."""

    weight: float
    words: str


@dataclass(frozen=True)
class GradedAnswer:
    """A score of 0 to 10 and its reason."""

    score: float
    reason: str


def ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to `low`, 1 from `high`, and linear values in between; `high` may be below `low`."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


def grade(faults: Mapping[str, Fault], praise: str) -> GradedAnswer:
    """Return 10 times the product of (1 - weight), with the worst faults as the reason, or `praise` without any."""
    score = 10.0
    for fault in faults.values():
        score *= 1 - min(1.0, max(0.0, fault.weight))
    worst = sorted((f for f in faults.values() if f.weight >= 0.1), key=lambda f: -f.weight)[:REASONS]
    text = "; ".join(f.words for f in worst) or praise
    return GradedAnswer(round(score, 1), f"{text[0].upper()}{text[1:]}.")


def removal_faults(found: RemovalMeasures, facts: Mapping[str, Any]) -> dict[str, Fault]:
    """Return the faults of a removal; `facts` may hold `unrevealed` and `psnr_outside`.

    The bounds were set on scenes with ground truth: a perfect fill, a ghost of 30 %, a blurred blob, per-frame
    inpainting, a flickering fill, a brightness offset and another object in the place.
    """
    unrevealed = _number(facts, "unrevealed", 0.0)
    return {
        "left": Fault(ramp(found.left, 0.1, 0.5), f"{found.left:.0%} of the object can still be made out"),
        "wrong": Fault(
            ramp(found.wrong, 0.1, 0.6),
            f"the fill is {found.wrong:.0%} as far from the real background as the object was",
        ),
        "flicker": Fault(
            ramp(found.flicker, 1.5, 8),
            f"the fill changes by {found.flicker:.1f} grey levels more than its surroundings",
        ),
        "soft": Fault(0.6 * ramp(found.soft, 0.35, 0.9), f"the fill lacks {found.soft:.0%} of the detail"),
        "seam": Fault(
            0.5 * ramp(found.seam, 0.3, 1.5), f"the contour is {1 + found.seam:.1f} times as steep as beside it"
        ),
        "shade": Fault(
            0.5 * ramp(found.shade, 0.05, 0.4),
            f"a shadow or reflection of {found.shade:.0%} of the object's size is left",
        ),
        "unknown": Fault(
            0.6 * max(ramp(unrevealed, 0.15, 0.6), ramp(found.known, 0.4, 0.0)),
            "too little of the background is ever seen to tell what belongs there",
        ),
        "spill": _spill(found.spill, 3, 12, facts),
    }


def modification_faults(found: LocalChange, facts: Mapping[str, Any], named: frozenset[str]) -> dict[str, Fault]:
    """Return the faults of a modification; `named` are the colours in the instruction."""
    wrong_colour = bool(named) and not named & set(found.after)
    patterned = any(facts.get(f"look_{name}") for name in PAINTED_ON)
    return {
        "weak": _weak(found, PATTERN_SHARE if patterned else 1.0),
        "other": Fault(
            0.7 * ramp(found.structure, SAME_OBJECT, 0.0),
            f"its pattern is kept by {max(0.0, found.structure):.0%} only",
        ),
        "colour": Fault(
            0.6 * wrong_colour, f"the changed part is {' and '.join(found.after)}, which is not what is said"
        ),
        **_local_faults(found, facts),
    }


def swap_faults(found: LocalChange, facts: Mapping[str, Any]) -> dict[str, Fault]:
    """Return the faults of a swap: the object must be another one."""
    return {
        "weak": _weak(found),
        "same": Fault(
            ramp(found.structure, SAME_OBJECT, 0.9), f"{found.structure:.0%} of the object's pattern is still there"
        ),
        **_local_faults(found, facts),
    }


def style_faults(found: GlobalChange, facts: Mapping[str, Any]) -> dict[str, Fault]:
    """Return the faults of a stylization."""
    unsteady = max(found.unsteady, _number(facts, "flicker", 0.0))
    return {
        "weak": Fault(ramp(found.change, 12, 4), f"the picture changes by {found.change:.0f} CIELAB units only"),
        "structure": Fault(
            ramp(found.structure, 0.4, 0.05), f"the edges agree by {max(0.0, found.structure):.0%} only"
        ),
        "unsteady": Fault(
            0.8 * ramp(unsteady, 3, 12), f"it flickers by {unsteady:.1f} grey levels more than the source"
        ),
        "palette": Fault(0.4 * ramp(found.approach, 0.15, -0.3), "its colours do not come nearer to the reference's"),
    }


def _weak(found: LocalChange, share: float = 1.0) -> Fault:
    """Return how far a change is too weak; `share` is the part of an object that a change of its kind covers."""
    return Fault(
        max(ramp(found.change, 10 * share, 3 * share), ramp(found.part, 0.2 * share, 0.05 * share)),
        f"the object changes by {found.change:.0f} CIELAB units only, on {found.part:.0%} of it",
    )


def _local_faults(found: LocalChange, facts: Mapping[str, Any]) -> dict[str, Fault]:
    return {
        "unsteady": Fault(
            ramp(found.unsteady, 1.5, 8),
            f"the object flickers by {found.unsteady:.1f} grey levels more than in the source",
        ),
        "spill": _spill(found.outside, 2, 8, facts),
    }


def _spill(outside: float, low: float, high: float, facts: Mapping[str, Any]) -> Fault:
    psnr = _number(facts, "psnr_outside", 100.0)
    weight = 0.7 * max(ramp(outside, low, high), ramp(psnr, 30, 20))
    return Fault(weight, f"the rest of the picture changes too, by {outside:.1f} units")


def _number(facts: Mapping[str, Any], name: str, default: float) -> float:
    value = facts.get(name)
    return float(value) if isinstance(value, (int, float)) else default
