"""Bounds that numbers of a pair are held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Limit(BaseModel):
    """Bounds of one number, inclusive; either may be open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: float | None = None
    max: float | None = None


Limits = dict[str, Limit]
"""Number to its bounds."""


def beyond(limits: Mapping[str, Limit], numbers: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return reason and detail of the first number that lies beyond its bounds; None where none does.

    The reason is `<number>_too_low` or `<number>_too_high`. A number that is not there meets every bound.
    """
    for name, limit in limits.items():
        value = numbers.get(name)
        if value is None:
            continue
        if limit.max is not None and value > limit.max:
            return f"{name}_too_high", f"{name} is {value:.3g}, at most {limit.max:g}"
        if limit.min is not None and value < limit.min:
            return f"{name}_too_low", f"{name} is {value:.3g}, at least {limit.min:g}"
    return None
