"""First-frame propagation by a LoRA that is tuned to each clip (LoRA-Edit), on Wan2.1-I2V: the role `tuned_propagator`.

The tuning runs in processes of its own, so that all memory of the GPU is free before it and after it; the model that
edits is loaded behind it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.core.errors import ConfigError
from ffpdata.media import conditioning
from ffpdata.media.geometry import check_clip
from ffpdata.models.lora_labels import wan_labels
from ffpdata.models.loraedit.region import cells, of_clip, spread
from ffpdata.models.loraedit.settings import PARTS, LoraEditRuntime, LoraEditSettings
from ffpdata.models.propagation.model_folder import base_digest
from ffpdata.models.protocols import TunedEdit
from ffpdata.models.requirements import Requirements
from ffpdata.models.settings import parse_runtime, parse_settings
from ffpdata.models.wan.loading import LoadPlan, require
from ffpdata.models.wan.pipeline_cache import wan_plan, wan_requirements
from ffpdata.models.wan.settings import DiffsynthRuntime, Lora
from ffpdata.propagation.clip_tuning import Tuned, TuningInputs, base_of, check_tuned, read_tuned, tune

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames, Image

    Masks = NDArray[np.bool_]

logger = logging.getLogger(__name__)

LEAST_FRAMES = 5
"""A clip of fewer frames is one latent: nothing moves in it."""


class LoraEdit:
    """A `TunedPropagator` on Wan2.1-I2V, by diffsynth."""

    name = "loraedit"
    version: int = 1
    Settings = LoraEditSettings
    Runtime = LoraEditRuntime

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        self._spec, self._plan = spec, self.plan(spec)
        require("torch", "diffsynth", "accelerate", "peft")
        self._base = base_of(spec, base_digest(self._plan.parts))
        self._cache = cache_folder(parse_runtime(LoraEditRuntime, spec).cache)
        self._engine: Any = None
        self._given: Tuned | None = None
        if self.settings.trained:
            self._given = read_tuned(Path(self.settings.trained))
            check_tuned(self._given, self._base)

    @classmethod
    def plan(cls, spec: ModelSpec, parts: Sequence[str] = ()) -> LoadPlan:
        """Return the load plan of the model or some of its parts.

        Raises:
            ConfigError: a setting is not valid, or does not fit the device.
            FatalError: as `pipeline_cache.wan_plan`.
        """
        settings = parse_settings(cls.Settings, spec)
        if parse_runtime(LoraEditRuntime, spec).sequence_parallel > 1:
            raise ConfigError(f"{spec.backend}: a clip is tuned and edited on one device: set sequence_parallel to 1")
        if settings.tea_cache is not None:
            raise ConfigError(f"{spec.backend}: tea_cache does not reach its steps: leave it out")
        return wan_plan(_of_wan(spec), settings, parts or settings.parts)

    @classmethod
    def training_plan(cls, spec: ModelSpec, parts: Sequence[str] = PARTS, *, device: str = "") -> LoadPlan:
        """Return the load plan of a trainer, as `vace.Vace.training_plan` does."""
        plan = cls.plan(spec, parts)
        plan = replace(plan, device=device or plan.device, offload="none")
        return replace(plan, quantization="none", compiled=False)

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """Return its packages and checkpoints."""
        settings = parse_settings(cls.Settings, spec)
        found = wan_requirements(_of_wan(spec), settings, settings.parts)
        return replace(found, packages=(*found.packages, "accelerate", "peft"))

    @classmethod
    def adapters(cls, spec: ModelSpec) -> tuple[str, ...]:
        """Return the labels of a given tuning, of the role's LoRAs and of its attention kernel."""
        settings = parse_settings(cls.Settings, spec)
        own = ()
        if settings.trained:
            about = read_tuned(Path(settings.trained)).about
            own = (f"tuning@{str(about['revision'])[:8]}",)
        return (*own, *wan_labels(settings))

    def close(self) -> None:
        """Free the model."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def propagate(
        self,
        frames: Frames,
        edited_first_frame: Image,
        region: Masks,
        *,
        edited_frames: Mapping[int, Image] | None = None,
        prompt: str = "",
        source_prompt: str = "",
        negative: str = "",
        seed: int = 0,
    ) -> TunedEdit:
        """Tune the model to the clip and return the clip with its edit; arguments as for `TunedPropagator`.

        Args:
            frames: uint8 (T, H, W, 3); T is 4n+1 from 5 on, H and W are multiples of 16.
            edited_first_frame: uint8 (H, W, 3).
            region: bool (T, H, W), True may change; it is grown to whole cells of 8 x 8 pixels.
            edited_frames: index, from 1, to uint8 (H, W, 3).
            prompt: what the edited clip shows.
            source_prompt: what the source shows.
            negative: what the edited clip shall not show; that of the settings is appended.
            seed: of the noise.

        Returns:
            uint8 (T, H, W, 3); facts `first_frame_drift` and `outside_drift`, the mean differences from the edited
            first frame and, outside the region, from the source, in levels of 255; `region_share`; and the tuning.

        Raises:
            ConfigError: the model does not support the clip's size.
            ValueError: an image or the region has another size, the region is empty or all, or an index is none of the
                clip's.
            FatalError: the tuning failed, e.g. for want of disk.
            GpuMemoryError: the clip does not fit the GPU.
        """
        further = dict(edited_frames or {})
        self._check(frames, edited_first_frame, region, further)
        region = spread(cells(region))
        tuned = self._given or self._tuned(frames, region, further, prompt, source_prompt)
        if self._engine is None:
            from ffpdata.models.loraedit.engine import LoraEditEngine

            self._engine = LoraEditEngine(self._plan, self.settings)
        settings = self.settings
        video = self._engine.edit(
            frames,
            edited_first_frame,
            region,
            prompt=settings.text(prompt),
            negative=conditioning.negative_prompt(negative, settings.negative),
            seed=seed,
            loras=[Lora(model=str(tuned.weights)), *settings.loras],
        )
        drift = float(np.abs(video[0].astype(float) - edited_first_frame).mean())
        inside = of_clip(region)
        if settings.background == "pixels":
            video[1:] = conditioning.paste_back(frames[1:], video[1:], region[1:], settings.feather_px)
        facts = {
            "first_frame_drift": drift,
            "outside_drift": conditioning.outside_drift(frames[1:], video[1:], region[1:]),
            "region_share": float(inside[1:].mean()),
        }
        return TunedEdit(video, facts, dict(tuned.about))

    def _tuned(
        self, frames: Frames, region: Masks, further: Mapping[int, Image], prompt: str, source_prompt: str
    ) -> Tuned:
        settings = self.settings
        inputs = TuningInputs(frames, region, settings.text(source_prompt), further, settings.text(prompt))
        return tune(inputs, self._spec, self._base, self._cache, say=self._say, make_room=self.close)

    @staticmethod
    def _say(line: str) -> None:
        logger.info("%s", line)

    @staticmethod
    def _check(frames: Frames, edited_first_frame: Image, region: Masks, further: Mapping[int, Image]) -> None:
        check_clip(*frames.shape[:3], model="LoraEdit")
        if len(frames) < LEAST_FRAMES:
            raise ConfigError(f"a clip of {len(frames)} frames: LoRA-Edit takes {LEAST_FRAMES} or more, e.g. 49")
        conditioning.check_masks(frames, region)
        for name, image in {"edited first frame": edited_first_frame, **further}.items():
            if image.shape != frames.shape[1:]:
                raise ValueError(f"{name} {image.shape}, frames of {frames.shape[1:]}: resize it")
        if wrong := [index for index in further if not 0 < index < len(frames)]:
            raise ValueError(f"edited frame {wrong[0]}: the clip has frames 1 to {len(frames) - 1} behind its first")
        if not region[1:].any():
            raise ValueError("the region is empty: nothing of the clip may change")
        if cells(region[1:]).all():
            raise ValueError("the region is all of the clip: nothing would be kept")
        if blank := [index for index in further if not region[index].any()]:
            raise ValueError(f"edited frame {blank[0]}: the region is empty there")


def _of_wan(spec: ModelSpec) -> ModelSpec:
    """Return the role with the runtime that every back end on diffsynth has."""
    runtime = {name: value for name, value in spec.runtime.items() if name in DiffsynthRuntime.model_fields}
    return spec.model_copy(update={"runtime": runtime})


def cache_folder(named: str) -> Path:
    """Return the folder of the tunings."""
    if named:
        return Path(named).expanduser().resolve()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "ffpdata" / "loraedit"
