"""One generation as plain data, which is sent to other processes unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ffpdata.models.protocols import Frames, Image
    from ffpdata.models.wan.settings import Tiles


@dataclass(frozen=True)
class Request:
    """Inputs of one generation by a Wan pipeline.

    Attributes:
        height: of the clip, a multiple of 16.
        width: of the clip, a multiple of 16.
        frames: 4n+1.
        control: VACE's src_video, uint8 (T, H, W, 3): a blanked clip, or depth.
        mask: VACE's src_mask, uint8 (T, H, W, 3), white = generate; None generates everything.
        reference: VACE's src_ref_images: one image of the clip's size.
        first_image: first frame for image-to-video, of the clip's size.
        control_scale: weight of VACE's layers; 1 as trained.
        attention: the setting of this name.
        boundary: of two transformers, the time below which the second takes over; None for one.
        tea_cache: threshold, and name of the model whose coefficients are used.
    """

    prompt: str
    negative: str
    seed: int
    height: int
    width: int
    frames: int
    steps: int
    guidance: float
    shift: float
    tiles: Tiles | None = None
    tea_cache: tuple[float, str] | None = None
    control: Frames | None = None
    mask: Frames | None = None
    reference: Image | None = None
    first_image: Image | None = None
    control_scale: float = 1.0
    attention: str = "auto"
    boundary: float | None = None

    def __str__(self) -> str:
        return f"{self.width} x {self.height} x {self.frames}"
