"""What shapes a Wan model's answer (`settings`, in every key) and how it is computed (`runtime`, in none)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ffpdata.models.requirements import Checkpoint
from ffpdata.models.settings import BackendSettings, DeviceRuntime
from ffpdata.models.weights import Dtype

REMEDY = "Set the role's runtime offload to models or layers, tile the VAE, or use a smaller clip or model."
"""What to do where the GPU is too small."""


class Source(BaseModel):
    """Where a part of the model, or a LoRA, comes from.

    Attributes:
        model: a folder, or the hub's `owner/name`.
        revision: commit or tag of the repository.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    revision: str = ""


class Lora(Source):
    """Low-rank weights laid over the model's own: fewer steps, or a fine-tuned removal.

    Attributes:
        file: which file of the source, where it has several.
        strength: factor on the change, 1 as trained.
    """

    file: str = ""
    strength: float = 1.0

    def checkpoint(self) -> Checkpoint:
        """Where its weights are looked for."""
        return Checkpoint("lora", self.model, self.revision, (self.file or "*.safetensors",), Path(self.file).stem)


class Tiles(BaseModel):
    """Tiles that the VAE works in, in latent pixels (8 x 8 of the clip): less memory, more time, blended seams."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[int, int] = (48, 84)
    """Height and width. Four tiles cover 1280 x 720; diffsynth's own (30, 52) makes thirty overlapping ones of it."""
    stride: tuple[int, int] = (42, 76)

    @field_validator("stride")
    @classmethod
    def _overlap(cls, stride: tuple[int, int], info: Any) -> tuple[int, int]:
        size = info.data.get("size", stride)
        if not all(0 < s <= full for s, full in zip(stride, size, strict=True)):
            raise ValueError(f"tiles of {size} need a stride above 0 and at most that")
        return stride


class TeaCache(BaseModel):
    """Skip a step's transformer where its input hardly changed (TeaCache, as diffsynth has it)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(gt=0)
    """Accumulated relative change below which a step is skipped; larger is faster and worse."""
    fitted: Literal["Wan2.1-T2V-1.3B", "Wan2.1-T2V-14B", "Wan2.1-I2V-14B-480P", "Wan2.1-I2V-14B-720P"]
    """Whose coefficients: VACE has the transformer of the T2V model of its size."""


class WanSettings(BackendSettings):
    """What every Wan back end can be told. Defaults are those of Wan's own generate.py."""

    steps: int = Field(50, ge=1)
    guidance: float = Field(5.0, ge=1)
    """Classifier-free guidance; 1 is none, and halves the time: what distilled LoRAs want."""
    shift: float = Field(5.0, gt=0)
    """How far the steps are moved towards the noisy end."""
    negative: str = ""
    """What must never appear; added behind the negative prompt of the call."""
    tiles: Tiles | None = None
    """Unset, the VAE sees the clip whole: 11 GiB at 720p."""
    loras: list[Lora] = []
    dtype: Dtype = "bfloat16"

    def sampling(self) -> dict[str, Any]:
        """What of it a `Request` carries."""
        return {name: getattr(self, name) for name in ("steps", "guidance", "shift", "tiles")}


class DiffsynthSettings(WanSettings):
    """And by diffsynth: its sampler for Wan is Euler on the flow."""

    sources: dict[str, Source] = {}
    """Parts that come from elsewhere than `model`: the back end lists their names."""
    tea_cache: TeaCache | None = None
    """Counts in the key: it changes the answer."""

    def sampling(self) -> dict[str, Any]:
        """What of it a `Request` carries."""
        cache = self.tea_cache
        return super().sampling() | {"tea_cache": (cache.threshold, cache.fitted) if cache else None}


class WanRuntime(DeviceRuntime):
    """How the same answer is computed."""

    offload: Literal["none", "models", "layers"] = "none"
    """What waits in main memory for its turn: nothing, each model, or each layer."""
    loras_root: str = ""
    """Folder, or URL of an object store, that LoRAs named by a relative path are looked for in first. So a LoRA that
    was made in a run folder keeps its name, and its keys, wherever the folder lies."""


class DiffsynthRuntime(WanRuntime):
    """And by diffsynth."""

    layer_limit_gib: float = Field(3.0, gt=0)
    """Offload by layers: memory in use on the device below which a layer stays there once it was brought in."""
    allow_pickle: bool = False
    """Read `.pth` files where there is no safetensors file, by torch's restricted loader."""
    sequence_parallel: int = Field(1, ge=1)
    """GPUs that work on one clip, each with a whole copy of the model (Ulysses attention; it needs `xfuser` and
    `flash-attn`). The transformer's heads must divide by it: 12 of the 1.3B model, 40 of the 14B. Sums are rounded in
    another order than on one GPU."""
