"""VACE (Jiang et al. 2025): removes, swaps and restyles, by diffsynth.

The paper's editor (sections 3.1 and 3.2). What it is shown is made by `media.conditioning`: the clip with its region
grey and the region white, or depth and a reference image with everything to generate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.media import conditioning
from ffpdata.media.geometry import check_clip
from ffpdata.models.lora_labels import lora_labels
from ffpdata.models.protocols import Edit
from ffpdata.models.requirements import Requirements
from ffpdata.models.settings import parse_settings
from ffpdata.models.wan.checkpoint_files import TRANSFORMER
from ffpdata.models.wan.pipeline_cache import hold, wan_needs, wan_plan
from ffpdata.models.wan.request import Request
from ffpdata.models.wan.settings import DiffsynthRuntime, DiffsynthSettings, Lora, WanSettings

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Depth, Frames, Image, Masks
    from ffpdata.models.wan.loading import LoadPlan

PARTS = (TRANSFORMER, "text_encoder", "vae")
"""What a VACE checkpoint is made of; the first holds the transformer and VACE's own layers in one."""


class EditSettings(WanSettings):
    """What VACE adds. Steps, guidance and shift are those of VACE's vace_wan_inference.py; the paper names none."""

    shift: float = Field(16.0, gt=0)
    control_scale: float = Field(1.0, ge=0)
    """How strongly what it is shown counts (VACE's context scale)."""
    paste_back: bool = False
    """Put the source's own pixels back outside the mask: exact there, at the price of a seam where colours drifted."""
    paste_feather_px: int = Field(8, ge=0)
    """Width of that seam, in pixels of a 720p clip."""


class VaceSettings(EditSettings, DiffsynthSettings):
    """Settings of `Vace`."""


def shown_for_edit(frames: Frames, masks: Masks) -> dict[str, Frames]:
    """What VACE is shown to edit a clip, at work and in training: the clip with its region grey, and the region white.

    Args:
        frames: uint8 (T, H, W, 3).
        masks: bool (T, H, W), True = generate.

    Returns:
        `control` and `mask` of a `Request`, each uint8 (T, H, W, 3).
    """
    return {"control": conditioning.blank(frames, masks), "mask": conditioning.mask_frames(masks)}


def make_request(
    settings: EditSettings,
    shape: tuple[int, ...],
    prompt: str,
    *,
    negative: str = "",
    seed: int = 0,
    reference: Image | None = None,
    **shown: Any,
) -> Request:
    """Put together what the pipeline is asked for.

    Args:
        settings: of the role.
        shape: (T, H, W, ...) of the clip.
        prompt: describes the whole clip as it shall be.
        negative: what must not appear; the settings' own words stand behind it.
        seed: of the noise.
        reference: of any size; it is set on a white canvas of the clip's.
        shown: `control` and `mask`.
    """
    count, height, width = shape[:3]
    return Request(
        prompt=prompt,
        negative=conditioning.negative_prompt(negative, settings.negative),
        seed=seed,
        height=height,
        width=width,
        frames=count,
        control_scale=settings.control_scale,
        reference=None if reference is None else conditioning.on_canvas(reference, height, width),
        **settings.sampling(),
        **shown,
    )


class VaceRoles(ABC):
    """The roles that VACE plays, `Inpainter` and `Stylizer`, whatever library runs it."""

    Settings: type[EditSettings]
    settings: EditSettings

    @classmethod
    def adapters(cls, spec: ModelSpec) -> tuple[str, ...]:
        """The LoRAs that lie over the model."""
        return lora_labels(parse_settings(cls.Settings, spec).loras)

    def edit(
        self,
        frames: Frames,
        masks: Masks,
        *,
        prompt: str,
        negative: str = "",
        reference: Image | None = None,
        seed: int = 0,
    ) -> Edit:
        """Regenerate the masked pixels of every frame.

        Args:
            frames: uint8 (T, H, W, 3) RGB; T is 4n+1, H and W are multiples of 16.
            masks: bool (T, H, W), True = generate. What was there is not shown to the model.
            prompt: describes the whole clip as it shall be.
            negative: what must not appear; for a removal the object's name leads it.
            reference: shows what to put there; of any size.
            seed: of the noise.

        Returns:
            The whole clip as the model made it, or with the source pasted back outside the mask. Facts:
            `outside_drift` (mean change outside the mask as generated, levels of 255), `pasted_back` (1 or 0) and, if
            so, `paste_feather_px`.

        Raises:
            Reject: `mask_empty`.
            ConfigError: a size that the model does not take.
            GpuMemoryError: the clip does not fit the GPU.
            RetryableError: others fill the GPU.
        """
        conditioning.check_masks(frames, masks)
        if not masks.any():
            raise Reject("mask_empty", "no frame has a masked pixel, nothing can be edited")
        made = self._ask(frames.shape, prompt, negative, seed, reference, **shown_for_edit(frames, masks))
        facts = {"outside_drift": conditioning.outside_drift(frames, made, masks), "pasted_back": 0.0}
        if self.settings.paste_back:
            feather = round(self.settings.paste_feather_px * min(frames.shape[1:3]) / 720)
            made = conditioning.paste_back(frames, made, masks, feather)
            facts |= {"pasted_back": 1.0, "paste_feather_px": float(feather)}
        return Edit(made, facts)

    def stylize(self, frames: Frames, depth: Depth, reference: Image, *, prompt: str, seed: int = 0) -> Edit:
        """Generate the whole clip anew on its depth, in the reference's style (paper, section 3.2, stage 2).

        Args:
            frames: uint8 (T, H, W, 3); the model sees their size and their depth.
            depth: float32 (T, H, W) in 0..1, near = 1.
            reference: uint8 (h, w, 3); of another shape than the clip, it is set on a white canvas.
            prompt: the style caption.
            seed: of the noise.

        Raises:
            As `edit`, without `mask_empty`.
        """
        if depth.shape != frames.shape[:3]:
            raise ValueError(f"depth {depth.shape} does not fit frames {frames.shape[:3]}")
        control = conditioning.depth_frames(depth)
        return Edit(self._ask(frames.shape, prompt, "", seed, reference, control=control))

    def _ask(
        self, shape: tuple[int, ...], prompt: str, negative: str, seed: int, reference: Image | None, **shown: Any
    ) -> Frames:
        check_clip(*shape[:3], model=type(self).__name__)
        return self.generate(
            make_request(self.settings, shape, prompt, negative=negative, seed=seed, reference=reference, **shown)
        )

    @abstractmethod
    def generate(self, request: Request) -> Frames:
        """Run the model: uint8 (T, H, W, 3)."""


class Vace(VaceRoles):
    """VACE 1.3B or 14B by diffsynth, for the roles `remover`, `swapper` and `stylizer`.

    Roles of one process that load the same weights in the same way share one model, whatever LoRAs each lays over it.
    Answers are the same bytes for the same seed on one machine and library; another GPU, offload or number of GPUs
    sums in another order.
    """

    name = "vace"
    version: int = 1
    Settings = VaceSettings
    Runtime = DiffsynthRuntime
    settings: VaceSettings

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        self._held = hold(spec, self.settings, PARTS)

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """What must be there for it."""
        return wan_needs(spec, parse_settings(cls.Settings, spec), PARTS)

    @classmethod
    def training_plan(cls, spec: ModelSpec, parts: Sequence[str] = PARTS, *, device: str = "") -> LoadPlan:
        """How a trainer loads the model, or some parts of it: whole on one device, without LoRAs.

        That a back end has this method says that it can be fine-tuned (`training.finetune`).

        Args:
            spec: the profile's role.
            parts: of `PARTS`.
            device: where to load it; unset, where the role's runtime says.

        Raises:
            As `needs` and `wan.shared.wan_plan`.
        """
        plan = wan_plan(spec, parse_settings(cls.Settings, spec), parts)
        return replace(plan, device=device or plan.device, offload="none", ranks=1)

    def close(self) -> None:
        """Let go of the model; it is freed when no other role holds it."""
        self._held.close()

    def generate(self, request: Request) -> Frames:
        """Run the pipeline with this role's LoRAs."""
        return self._held.generate(request)

    def swap_loras(self, loras: Sequence[Lora]) -> None:
        """Use other LoRAs from the next clip on, without loading the model again; none takes them off exactly."""
        self._held.swap_loras(loras)
