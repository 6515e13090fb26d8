"""The size, rate and length that every clip of a dataset has."""

from __future__ import annotations

from fractions import Fraction
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SIZE_STEP = 16
"""VACE and Wan work on latents of 1/8 in patches of 2 and round other sizes silently, so they are refused here."""

MAX_FRAMES = 81
"""VACE's quality falls past 81 frames; the paper's pairs have 81 as well."""


class Geometry(BaseModel):
    """What a clip is conformed to. `width` x `height` is the landscape size; a portrait source gets it turned.

    Attributes:
        width: pixels of the long side, a multiple of 16 (paper: 1280).
        height: pixels of the short side, a multiple of 16 (paper: 720).
        fps: frames per second. The paper names none; 16 is what Wan 2.1 and VACE were trained at.
        frames: length of a clip, 4n+1 and at most 81 (paper: 81).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(1280, ge=SIZE_STEP)
    height: int = Field(720, ge=SIZE_STEP)
    fps: float = Field(16.0, gt=0, le=240)
    frames: int = Field(81, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, value in (("width", self.width), ("height", self.height)):
            if value % SIZE_STEP:
                low = value - value % SIZE_STEP
                raise ValueError(
                    f"{name} {value} is no multiple of {SIZE_STEP}, which the video models need: "
                    f"use {low or SIZE_STEP} or {low + SIZE_STEP}"
                )
        if self.width < self.height:
            raise ValueError(
                f"width {self.width} is below height {self.height}: give the landscape size, "
                "portrait sources get it turned"
            )
        if self.frames > MAX_FRAMES or self.frames % 4 != 1:
            near = min(MAX_FRAMES, max(1, (self.frames - 1) // 4 * 4 + 1))
            raise ValueError(f"frames {self.frames} is not 4n+1 and at most {MAX_FRAMES}: use {near}")
        return self

    @property
    def seconds(self) -> float:
        """Length of a clip in seconds."""
        return self.frames / self.fps

    @property
    def rate(self) -> Fraction:
        """The frame rate as a fraction."""
        return as_rate(self.fps)

    def size_for(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) for a source of `width` x `height` displayed pixels: turned where it is portrait."""
        return (self.height, self.width) if height > width else (self.width, self.height)


def as_rate(fps: float) -> Fraction:
    """Return frames per second as the fraction that containers write: 29.97003 is 30000/1001."""
    return Fraction(fps).limit_denominator(1001)
