"""First-frame propagation by Wan2.1-Fun-Control, as it comes or as FreeProp has trained it (paper, section 4).

The role `propagator`. Without `trained` the source is the control clip and the edited frame the first image of the
base, which was made for depth, edges and poses, not for clips in colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ffpdata.core.errors import ConfigError
from ffpdata.media import conditioning
from ffpdata.media.geometry import check_clip
from ffpdata.models.lora_labels import wan_labels
from ffpdata.models.propagation.model_folder import TrainedModel, read_model
from ffpdata.models.propagation.settings import PRESETS, PropagationSettings
from ffpdata.models.protocols import Edit
from ffpdata.models.requirements import Requirements
from ffpdata.models.settings import parse_runtime, parse_settings
from ffpdata.models.wan.checkpoint_files import TRANSFORMER
from ffpdata.models.wan.loading import LoadPlan
from ffpdata.models.wan.pipeline_cache import wan_plan, wan_requirements
from ffpdata.models.wan.settings import DiffsynthRuntime, DiffsynthSettings

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames, Image

PARTS = (TRANSFORMER, "text_encoder", "vae", "image_encoder")
"""Parts of a Fun-Control checkpoint."""


class PropagatorSettings(DiffsynthSettings):
    """Settings of `FunControl`; VideoX-Fun's example of the base takes shift 3 and guidance 6."""

    trained: str = ""
    """Folder of a trained model; empty for the base as it comes."""
    clip_embedding: Literal["on", "zero"] = "on"
    """Of the base as it comes; a trained model has its own."""
    reference_tokens: Literal["none", "zero"] = "none"
    """Likewise."""
    first_frame: Literal["generated", "image"] = "generated"
    """First frame of the answer: as the model draws it, which goes with the next ones, or the edited frame itself."""

    def model(self) -> tuple[PropagationSettings, TrainedModel | None]:
        """Return the model's settings, and the folder that it is read from, where there is one.

        Raises:
            FatalError: as `model_folder.read_model`.
        """
        if self.trained:
            found = read_model(self.trained)
            return found.settings, found
        own = {"clip_embedding": self.clip_embedding, "reference_tokens": self.reference_tokens, "mask_channels": 0}
        return PropagationSettings(**{**PRESETS["baseline"], **own}), None

    def parts(self) -> tuple[str, ...]:
        """Return the parts of the checkpoint that the model needs."""
        return PARTS if self.model()[0].clip_embedding == "on" else PARTS[:-1]


class FunControl:
    """A `Propagator` on Wan2.1-Fun-Control 1.3B or 14B, by diffsynth."""

    name = "fun_control"
    version: int = 1
    Settings = PropagatorSettings
    Runtime = DiffsynthRuntime

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        plan = self.plan(spec)
        from ffpdata.models.propagation.engine import PropagationEngine

        self._engine = PropagationEngine(plan, *self.settings.model())

    @classmethod
    def plan(cls, spec: ModelSpec, parts: Sequence[str] = ()) -> LoadPlan:
        """Return the load plan of the model or some of its parts.

        Raises:
            ConfigError: a setting is not valid, does not fit the device, or asks for several devices per clip, on which
                AST-RoPE would silently be left out.
            FatalError: as `pipeline_cache.wan_plan`.
        """
        ranks = parse_runtime(DiffsynthRuntime, spec).sequence_parallel
        if ranks > 1:
            raise ConfigError(
                f"{spec.backend}: runtime sequence_parallel is {ranks}: attention over several devices does not pass "
                "AST-RoPE: set 1, and give each device a clip of its own"
            )
        settings = parse_settings(cls.Settings, spec)
        if settings.tea_cache is not None:
            raise ConfigError(f"{spec.backend}: tea_cache has no coefficients of Fun-Control: leave it out")
        return wan_plan(spec, settings, parts or settings.parts())

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
        return wan_requirements(spec, settings, settings.parts())

    @classmethod
    def adapters(cls, spec: ModelSpec) -> tuple[str, ...]:
        """Return the labels of the trained model, of the role's LoRAs and of its attention kernel."""
        settings = parse_settings(cls.Settings, spec)
        _, trained = settings.model()
        own = (f"{trained.folder.name}@{trained.digest()[:8]}",) if trained else ()
        return (*own, *wan_labels(settings))

    def close(self) -> None:
        """Free the model."""
        self._engine.close()

    def propagate(
        self, frames: Frames, edited_first_frame: Image, *, prompt: str = "", negative: str = "", seed: int = 0
    ) -> Edit:
        """Return the clip with the edit of its first frame carried through.

        Args:
            frames: uint8 (T, H, W, 3); T is 4n+1, H and W are multiples of 16. The model is made for the number of
                frames that it was trained on.
            edited_first_frame: uint8 (H, W, 3).
            prompt: what the edited clip shows.
            negative: what it shall not show; that of the settings is appended.
            seed: of the noise.

        Returns:
            uint8 (T, H, W, 3); facts `first_frame_drift`, the mean difference of the generated first frame from the
            edited one in levels of 255, and with AST-RoPE `alpha_s` and `alpha_t` of the clip.

        Raises:
            ConfigError: the model does not support the clip's size.
            ValueError: the edited frame is of another size.
            GpuMemoryError: the clip does not fit the GPU.
            RetryableError: other processes fill the GPU.
        """
        check_clip(*frames.shape[:3], model=type(self).__name__)
        if edited_first_frame.shape != frames.shape[1:]:
            raise ValueError(f"edited first frame {edited_first_frame.shape}, frames of {frames.shape[1:]}: resize it")
        from ffpdata.models.propagation.sampling import Sampling

        settings = self.settings
        answer = self._engine.propagate(
            frames,
            edited_first_frame,
            prompt=prompt,
            negative=conditioning.negative_prompt(negative, settings.negative),
            seed=seed,
            sampling=Sampling(settings.steps, settings.guidance, settings.shift),
            loras=settings.loras,
            tiles=settings.tiles,
            attention=settings.attention,
        )
        video = answer.frames
        drift = float(abs(video[0].astype(float) - edited_first_frame).mean())
        if settings.first_frame == "image":
            video[0] = edited_first_frame
        return Edit(video, {"first_frame_drift": drift, **answer.facts})
