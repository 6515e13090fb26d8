"""VACE (Jiang et al. 2025): removal, swap and stylization, by diffsynth.

The paper's editor (sections 3.1 and 3.2). `media.conditioning` prepares its inputs: the clip with its region grey and
the region white, or, where everything is generated, depth and a reference image.
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
from ffpdata.models.lora_labels import wan_labels
from ffpdata.models.protocols import Edit
from ffpdata.models.requirements import Requirements
from ffpdata.models.settings import parse_settings
from ffpdata.models.wan.checkpoint_files import TRANSFORMER
from ffpdata.models.wan.pipeline_cache import shared_pipeline, wan_plan, wan_requirements
from ffpdata.models.wan.request import Request
from ffpdata.models.wan.settings import DiffsynthRuntime, DiffsynthSettings, Lora, WanSettings

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Depth, Frames, Image, Masks
    from ffpdata.models.wan.loading import LoadPlan

PARTS = (TRANSFORMER, "text_encoder", "vae")
"""Parts of a VACE checkpoint; the first holds the transformer and VACE's own layers."""

BESIDE = ("vace",)
"""Models in the transformer's files beside it."""


class EditSettings(WanSettings):
    """Settings of VACE. Steps, guidance and shift are those of VACE's vace_wan_inference.py; the paper gives none."""

    shift: float = Field(16.0, gt=0)
    control_scale: float = Field(1.0, ge=0)
    """Weight of the control input (VACE's context scale)."""
    paste_back: bool = False
    """Paste the source's pixels back outside the mask: exact there, but with a seam where colours drifted."""
    paste_feather_px: int = Field(8, ge=0)
    """Width of that seam, in pixels of a 720p clip."""


class VaceSettings(EditSettings, DiffsynthSettings):
    """Settings of `Vace`."""


def control_inputs(frames: Frames, masks: Masks) -> dict[str, Frames]:
    """Return VACE's control inputs for an edit, also in training: the clip with its region grey, and the region white.

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
    **inputs: Any,
) -> Request:
    """Build the request for the pipeline.

    Args:
        settings: of the role.
        shape: (T, H, W, ...) of the clip.
        prompt: describes the whole edited clip.
        negative: negative prompt; that of the settings is appended.
        seed: of the noise.
        reference: of any size; it is fitted on a white canvas of the clip's size.
        inputs: `control` and `mask` of the request.
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
        **inputs,
    )


class VaceRoles(ABC):
    """The roles `Inpainter` and `Stylizer` by VACE, for any library that runs it."""

    Settings: type[EditSettings]
    settings: EditSettings

    @classmethod
    def adapters(cls, spec: ModelSpec) -> tuple[str, ...]:
        """Return the labels of the role's LoRAs and of its attention kernel."""
        return wan_labels(parse_settings(cls.Settings, spec), spec.runtime.get("sequence_parallel", 1))

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
            masks: bool (T, H, W), True = generate; the model does not see the pixels there.
            prompt: describes the whole edited clip.
            negative: negative prompt; for a removal it starts with the object's name.
            reference: image of the object to insert, of any size.
            seed: of the noise.

        Returns:
            The whole clip as generated, or with the source pasted back outside the mask. Facts:
            `outside_drift` (mean change outside the mask as generated, levels of 255), `pasted_back` (1 or 0) and, if
            so, `paste_feather_px`.

        Raises:
            Reject: `mask_empty`.
            ConfigError: the model does not support the clip's size.
            GpuMemoryError: the clip does not fit the GPU.
            RetryableError: other processes fill the GPU.
        """
        conditioning.check_masks(frames, masks)
        if not masks.any():
            raise Reject("mask_empty", "no frame has a masked pixel, nothing can be edited")
        answer = self._run(frames.shape, prompt, negative, seed, reference, **control_inputs(frames, masks))
        edited = answer.frames
        facts = {"outside_drift": conditioning.outside_drift(frames, edited, masks), "pasted_back": 0.0, **answer.facts}
        if self.settings.paste_back:
            feather = round(self.settings.paste_feather_px * min(frames.shape[1:3]) / 720)
            edited = conditioning.paste_back(frames, edited, masks, feather)
            facts |= {"pasted_back": 1.0, "paste_feather_px": float(feather)}
        return Edit(edited, facts)

    def stylize(self, frames: Frames, depth: Depth, reference: Image, *, prompt: str, seed: int = 0) -> Edit:
        """Generate the whole clip from its depth in the reference's style (paper, section 3.2, stage 2).

        Args:
            frames: uint8 (T, H, W, 3); only their size is used.
            depth: float32 (T, H, W) in 0..1, near = 1.
            reference: uint8 (h, w, 3); fitted on a white canvas where its shape is not the clip's.
            prompt: the style caption.
            seed: of the noise.

        Raises:
            As `edit`, without `mask_empty`.
        """
        if depth.shape != frames.shape[:3]:
            raise ValueError(f"depth {depth.shape} does not fit frames {frames.shape[:3]}")
        control = conditioning.depth_frames(depth)
        return self._run(frames.shape, prompt, "", seed, reference, control=control)

    def _run(
        self, shape: tuple[int, ...], prompt: str, negative: str, seed: int, reference: Image | None, **inputs: Any
    ) -> Edit:
        check_clip(*shape[:3], model=type(self).__name__)
        return self.generate(
            make_request(self.settings, shape, prompt, negative=negative, seed=seed, reference=reference, **inputs)
        )

    @abstractmethod
    def generate(self, request: Request) -> Edit:
        """Run the model: frames uint8 (T, H, W, 3), and what it counted of its own work."""


class DiffsynthVace(VaceRoles):
    """A model of VACE's kind by diffsynth.

    Roles of one process with the same weights and load options share one model, each with its own LoRAs. The same seed
    gives the same bytes on one machine and library version; another GPU, offload or number of GPUs changes the order of
    sums.
    """

    Settings: type[VaceSettings] = VaceSettings
    Runtime = DiffsynthRuntime
    settings: VaceSettings
    parts: tuple[str, ...] = PARTS
    """Parts of its checkpoint."""

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        self._pipeline = shared_pipeline(spec, self.settings, self.parts, BESIDE)

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """Return its packages and checkpoints."""
        return wan_requirements(spec, parse_settings(cls.Settings, spec), cls.parts)

    def close(self) -> None:
        """Release the model; it is freed when no other role uses it."""
        self._pipeline.close()

    def generate(self, request: Request) -> Edit:
        """Run the pipeline with this role's LoRAs."""
        return self._pipeline.generate(request)

    def swap_loras(self, loras: Sequence[Lora]) -> None:
        """Use other LoRAs from the next clip on, without reloading the model; an empty list removes them exactly."""
        self._pipeline.swap_loras(loras)


class Vace(DiffsynthVace):
    """VACE 1.3B or 14B by diffsynth, for the roles `remover`, `swapper` and `stylizer`."""

    name = "vace"
    version: int = 1
    Settings = VaceSettings

    @classmethod
    def training_plan(cls, spec: ModelSpec, parts: Sequence[str] = PARTS, *, device: str = "") -> LoadPlan:
        """Return the load plan of a trainer for the model or some of its parts: on one device, without LoRAs.

        A back end with this method can be fine-tuned (`training.finetune`).

        Args:
            spec: the profile's role.
            parts: of `PARTS`.
            device: device to load it on; if empty, that of the role's runtime.

        Raises:
            As `needs` and `wan.pipeline_cache.wan_plan`.
        """
        plan = wan_plan(spec, parse_settings(cls.Settings, spec), parts, BESIDE)
        plan = replace(plan, device=device or plan.device, offload="none", ranks=1)
        return replace(plan, quantization="none", compiled=False)
