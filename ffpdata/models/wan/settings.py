"""Settings of Wan models, which count in keys because they change the result, and their runtime, which does not."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ffpdata.models.requirements import Checkpoint
from ffpdata.models.settings import BackendSettings, DeviceRuntime
from ffpdata.models.wan.attention import Attention
from ffpdata.models.wan.precision import Quantization
from ffpdata.models.weights import Dtype

REMEDY = "Set the role's runtime offload to models or layers, tile the VAE, or use a smaller clip or model."
"""Advice for out-of-memory errors."""


class Source(BaseModel):
    """Source of a part of the model, or of a LoRA.

    Attributes:
        model: a folder, or the hub's `owner/name`.
        revision: commit or tag of the repository.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    revision: str = ""


class Lora(Source):
    """Low-rank weights added to the model's own: for fewer steps, or fine-tuned for removal.

    Attributes:
        file: name of the file, where the source has several.
        strength: factor, 1 as trained.
        noise: of a model with two transformers, the one that it is laid over: that of the noisy or of the clean steps;
            empty for both.
    """

    file: str = ""
    strength: float = 1.0
    noise: Literal["", "high", "low"] = ""

    def checkpoint(self) -> Checkpoint:
        """Return its checkpoint."""
        stem = str(PurePosixPath(self.file).with_suffix("")) if self.file else ""
        return Checkpoint("lora", self.model, self.revision, (self.file or "*.safetensors",), stem)


class Tiles(BaseModel):
    """Tiles of the VAE, in latent pixels (8 x 8 of the clip): less memory, more time, blended seams."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[int, int] = (48, 84)
    """Height and width. Four tiles cover 1280 x 720; diffsynth's default (30, 52) takes thirty."""
    stride: tuple[int, int] = (42, 76)

    @field_validator("stride")
    @classmethod
    def _overlap(cls, stride: tuple[int, int], info: Any) -> tuple[int, int]:
        size = info.data.get("size", stride)
        if not all(0 < s <= full for s, full in zip(stride, size, strict=True)):
            raise ValueError(f"tiles of {size} need a stride above 0 and at most that")
        return stride


class TeaCache(BaseModel):
    """Skip the transformer in steps whose input hardly changed (TeaCache, in diffsynth's implementation)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(gt=0)
    """Accumulated relative change below which a step is skipped; larger is faster and worse."""
    fitted: Literal["Wan2.1-T2V-1.3B", "Wan2.1-T2V-14B", "Wan2.1-I2V-14B-480P", "Wan2.1-I2V-14B-720P"]
    """Model whose coefficients are used: VACE has the transformer of the T2V model of its size."""


class WanSettings(BackendSettings):
    """Settings of every Wan back end. Defaults are those of Wan's own generate.py."""

    two_transformers: ClassVar[bool] = False

    steps: int = Field(50, ge=1)
    guidance: float = Field(5.0, ge=1)
    """Classifier-free guidance; 1 is none and halves the time, as distilled LoRAs need it."""
    shift: float = Field(5.0, gt=0)
    """Shift of the steps towards the noisy end."""
    negative: str = ""
    """Appended to the negative prompt of every call."""
    tiles: Tiles | None = None
    """If unset, the VAE processes the whole clip at once: 11 GiB at 720p."""
    loras: list[Lora] = []
    dtype: Dtype = "bfloat16"
    attention: Attention = "auto"
    """Attention kernel: PyTorch's own (`sdpa`), FlashAttention 2 or 3, or SageAttention, which quantises. It changes
    the bytes and counts in the key; `auto` is `sdpa`, whatever is installed (with `sequence_parallel`, `fa2`)."""

    @field_validator("loras")
    @classmethod
    def _places(cls, loras: list[Lora]) -> list[Lora]:
        if not cls.two_transformers and (placed := [lora.noise for lora in loras if lora.noise]):
            raise ValueError(
                f"noise: {placed[0]} is for models with two transformers, and this one has one: leave it out"
            )
        return loras

    def sampling(self) -> dict[str, Any]:
        """Return the fields of a `Request` that these settings define."""
        return {name: getattr(self, name) for name in ("steps", "guidance", "shift", "tiles", "attention")}


class DiffsynthSettings(WanSettings):
    """Settings of back ends on diffsynth, whose sampler for Wan is Euler on the flow."""

    sources: dict[str, Source] = {}
    """Part to its source, where it is not `model`: the back end lists the parts."""
    tea_cache: TeaCache | None = None
    """Counts in the key, because it changes the result."""
    quantization: Quantization = "none"
    """Linear layers of the transformer and of VACE: `fp8` keeps weights and computes products in 8-bit floats with a
    scale per row (compute capability 8.9: Ada, Hopper, Blackwell), `fp8_weights` keeps the weights so and computes in
    `dtype` on any device. LoRAs stay in `dtype` beside them. It changes the result and counts in the key."""
    compile: bool = False
    """Compile the blocks of the transformer and of VACE by `torch.compile`: faster after a first, slow clip.
    Fused operations round in another order, so it changes bytes and counts in the key."""

    def sampling(self) -> dict[str, Any]:
        """Return the fields of a `Request` that these settings define."""
        cache = self.tea_cache
        return super().sampling() | {"tea_cache": (cache.threshold, cache.fitted) if cache else None}


class WanRuntime(DeviceRuntime):
    """Device, offloading and location of LoRAs."""

    offload: Literal["none", "models", "layers"] = "none"
    """Weights that stay in main memory until they are needed: none, whole models, or single layers."""
    loras_root: str = ""
    """Folder, or URL of an object store, that is searched first for LoRAs with a relative path. So a LoRA trained in a
    run folder keeps its name and its keys when the folder is moved."""


class DiffsynthRuntime(WanRuntime):
    """Runtime of back ends on diffsynth."""

    layer_limit_gib: float = Field(3.0, gt=0)
    """For offload `layers`: layers stay on the device while less memory than this is in use."""
    allow_pickle: bool = False
    """Read `.pth` files where there is no safetensors file, by torch's restricted loader."""
    sequence_parallel: int = Field(1, ge=1)
    """GPUs per clip, each with a whole copy of the model (Ulysses attention; it needs `xfuser` and
    `flash-attn`). The transformer's heads must divide by it: 12 of the 1.3B model, 40 of the 14B. Sums are rounded in
    another order than on one GPU."""
