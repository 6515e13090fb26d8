"""The size, rate and length that every clip of a dataset has."""

from __future__ import annotations

from fractions import Fraction
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ffpdata.core.errors import ConfigError

SIZE_STEP = 16
"""VACE and Wan work on latents of 1/8 in patches of 2 and round other sizes silently, so they are refused here."""

FRAME_STEP = 4
"""A clip has 4n+1 frames: the VAE encodes the first alone and then four at a time."""

MAX_FRAMES = 81
"""Longest clip that Wan 2.1 was trained on: quality falls beyond it (VACE issue 99). The paper's pairs have 81."""


class Geometry(BaseModel):
    """Size, rate and length of a clip. `width` x `height` is the landscape size; portrait sources get it turned.

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
        if found := _size_error(self.frames, self.height, self.width):
            raise ValueError(found)
        if self.width < self.height:
            raise ValueError(
                f"width {self.width} is below height {self.height}: give the landscape size, "
                "portrait sources get it turned"
            )
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


def check_clip(frames: int, height: int, width: int, *, model: str) -> None:
    """Raise for a clip that a video model would round or pad, or that is longer than its training clips.

    Nothing is resized here or later.

    Raises:
        ConfigError: every clip of a run has one size, so a wrong one is a wrong setting. It names the nearest that fit.
    """
    if found := _size_error(frames, height, width):
        raise ConfigError(f"{model}: {found}")


def _size_error(frames: int, height: int, width: int) -> str:
    """Return why the video models do not support a clip of this size and the nearest that they do; empty where fine."""
    if height % SIZE_STEP or width % SIZE_STEP or not height or not width:
        near = " x ".join(str(max(SIZE_STEP, round(side / SIZE_STEP) * SIZE_STEP)) for side in (width, height))
        return f"the video models need sides that are multiples of {SIZE_STEP}, not {width} x {height}: try {near}"
    if frames > MAX_FRAMES:
        return f"the video models take at most {MAX_FRAMES} frames, not {frames}: set clip.frames to {MAX_FRAMES}"
    if frames < 1 or frames % FRAME_STEP != 1:
        low = max(1, (frames - 1) // FRAME_STEP * FRAME_STEP + 1)
        near = f"{low} or {low + FRAME_STEP}" if frames > 0 else str(low)
        return f"the video models need 4n+1 frames, not {frames}: set clip.frames to {near}"
    return ""


def as_rate(fps: float) -> Fraction:
    """Return frames per second as the fraction that containers write: 29.97003 is 30000/1001."""
    return Fraction(fps).limit_denominator(1001)
