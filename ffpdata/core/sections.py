"""Sections of a pipeline file: how the input is read, and what happens to finished pairs."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class InputSettings(BaseModel):
    """How `--input` is read."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["clips", "styled"] = "clips"
    """`clips`: a folder, glob or table of videos. `styled`: sources with style references (`content/` and `style/`)."""
    root: str = ""
    """Folder that every path of a table must lie in; by default the folder of the table."""
    styles_per_source: int = Field(default=2, ge=1)
    """How many style references a source gets where the table names none."""


class CurateSettings(BaseModel):
    """What happens to finished pairs before export; see `ffpdata/curate/`."""

    model_config = ConfigDict(extra="forbid")

    variants: Literal["best", "all"] = "best"
    """Keep only the better of an item's variants by score, or all of them."""
    duplicate_bits: int = Field(default=10, ge=0, le=64)
    """Two frames whose 64-bit perceptual hashes differ in at most so many bits count as the same picture."""
    verdicts: Literal["use", "ignore", "require"] = "use"
    """Of reviewers: `use` keeps out what they reject, `require` also what they did not accept, `ignore` neither."""
    splits: dict[str, float] = {"train": 0.9, "validation": 0.05, "test": 0.05}
    """Split name to fraction; a source belongs to exactly one."""
    seed: int = 0

    @field_validator("splits")
    @classmethod
    def _check_splits(cls, splits: dict[str, float]) -> dict[str, float]:
        bad = sorted(name for name in splits if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name))
        if bad:
            raise ValueError(f"a split names a folder of the export: use letters, digits, - and _, not {bad}")
        if not splits or min(splits.values()) < 0 or not 0 < sum(splits.values()) < math.inf:
            raise ValueError("the fractions must be at least 0 and one of them above it")
        return splits
