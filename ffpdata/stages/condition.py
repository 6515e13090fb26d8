"""Turn an object's masks into the region that the model may repaint, per variant (paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from ffpdata.core.errors import FatalError, nearest
from ffpdata.core.stage import Artifact, Reject, Row, Stage, StageSettings
from ffpdata.media import masks as geometry
from ffpdata.media.clip_cache import cached_masks
from ffpdata.media.codec import write_masks
from ffpdata.stages._tasks import outlined


class Region(BaseModel):
    """How a variant shapes the region. The steps apply in this order; sizes are in pixels of a 720-line clip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    erode: int = Field(0, ge=0)
    dilate: int = Field(0, ge=0)
    boundary: int = Field(0, ge=0)
    """Keep only a band of this width on either side of the contour."""
    hull: bool = False
    box: bool = False
    """Fill each frame's bounding box: the paper's with-bbox scheme."""
    box_margin: float = Field(0.0, ge=0)
    """Margin around the box, as a fraction of its sides."""
    box_margin_px: int = Field(0, ge=0)
    invert: bool = False
    """Turn the region over: everything but it."""

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A region that is not turned over has the key that it had before there was such a step."""
        plain: dict[str, Any] = handler(self)
        return plain if self.invert else {name: value for name, value in plain.items() if name != "invert"}


class ConditionSettings(StageSettings):
    """Regions of the variants, and their largest area."""

    variants: dict[str, Region] = {
        "bbox": Region(box=True, box_margin=0.12, box_margin_px=8),
        "mask": Region(dilate=2),
        "eroded": Region(erode=6),
    }
    max_area: float = 0.5
    """Largest mean fraction of a frame that a region may cover."""


class Condition(Stage):
    """Write `condition_mask`, the region that synthesis may repaint."""

    name, version = "condition", 1
    reads = ("mask_video", "variant", "width", "height")
    uses = ("fps", "task")
    optional = ("task",)
    writes = {"condition_mask": Artifact("mp4"), "condition_area": float}
    Settings = ConditionSettings

    def applies(self, row: Mapping[str, Any]) -> bool:
        """What was outlined, as in `segment`."""
        return outlined(row.get("task"))

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the region as a lossless mask video."""
        variants = self.settings.variants
        region = variants.get(row["variant"])
        if region is None:
            raise FatalError(f"condition.variants has no {row['variant']!r}{nearest(row['variant'], variants)}")
        masks = apply_region(cached_masks(row.file("mask_video")), region, scale=min(row["width"], row["height"]) / 720)
        covered = float(masks.mean())
        if covered == 0:
            raise Reject("condition_empty", f"variant {row['variant']!r} leaves nothing of the mask: erode less")
        if covered > self.settings.max_area:
            raise Reject(
                "condition_too_large", f"the region covers {covered:.2f} of the clip, at most {self.settings.max_area}"
            )
        target = row.new_file("condition_mask")
        write_masks(target, masks, row["fps"])
        return {"condition_mask": target, "condition_area": covered}


def apply_region(masks: geometry.Masks, region: Region, scale: float = 1.0) -> geometry.Masks:
    """Apply the steps of a region to masks.

    Args:
        masks: bool (T, H, W).
        region: the steps.
        scale: factor of every size in pixels: short side of the clip over 720.

    Returns:
        bool (T, H, W).
    """

    def px(size: int) -> int:
        return max(1, round(size * scale)) if size else 0

    if region.erode:
        masks = geometry.erode(masks, px(region.erode))
    if region.dilate:
        masks = geometry.dilate(masks, px(region.dilate))
    if region.boundary:
        masks = geometry.boundary(masks, px(region.boundary))
    if region.hull:
        masks = geometry.hull(masks)
    if region.box:
        masks = geometry.box(masks, region.box_margin, px(region.box_margin_px))
    return ~masks if region.invert else masks
