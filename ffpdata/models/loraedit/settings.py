"""Settings of LoRA-Edit (LoRA-Edit paper, sections 3.3 and 4.1).

Where a default is the paper's, its docstring says so; where the paper is silent it is that of the authors' code
(LoRAEdit cc2c155) or a choice, and says which.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ffpdata.models.wan.settings import DiffsynthRuntime, DiffsynthSettings

LAYERS = ("q", "k", "v", "o")
"""Ends of the names of the layers that a LoRA adapts: self- and cross-attention (section 3.1), without the keys and
values of the image tokens, as in the authors' code."""


class TuningSettings(BaseModel):
    """How the model is tuned to one clip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decoupling_steps: int = Field(100, ge=1)
    """Steps on the clip itself, which teach its motion and to keep what the mask keeps (the paper's)."""
    appearance_steps: int = Field(100, ge=1)
    """Steps on the further edited frames, after the first ones; none without such frames (the paper's)."""
    learning_rate: float = Field(1e-4, gt=0)
    """AdamW's, constant (the paper's; the authors' program has 1e-3)."""
    rank: int = Field(16, ge=1)
    """Of the LoRA, whose alpha is the same (the authors' code)."""
    layers: tuple[str, ...] = LAYERS
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    """Both as in the authors' code."""
    window: int = Field(0, ge=0)
    """Frames of a training sample, 4n+1; 0 takes the whole clip. The paper's way to less memory (section 4.5) is 13:
    windows of 13 frames, each of which begins with the last frame of the one before, at the price of stripes."""
    seed: int = Field(0, ge=0)
    save_every: int = Field(20, ge=1)
    """Steps between checkpoints, from which a tuning that was killed goes on."""
    gradient_checkpointing: Literal["off", "on", "offload"] = "on"
    """A block saves everything for the backward pass, only its input, or its input in main memory."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.window and (self.window % 4 != 1 or self.window < 5):
            raise ValueError(f"window {self.window}: a sample has 4n+1 frames, e.g. 13 as in the paper; 0 takes all")
        return self


class LoraEditSettings(DiffsynthSettings):
    """Settings of `LoraEdit`; steps and shift of sampling are those of the authors' code."""

    steps: int = Field(30, ge=1)
    tuning: TuningSettings = TuningSettings()
    token: str = "p3rs0n"  # noqa: S105 - a word of a prompt
    """Special token p* before every text (section 3.1; the word is the authors')."""
    trained: str = ""
    """Folder of an earlier tuning to edit with; empty tunes to the clip."""
    clip_embedding: Literal["on", "zero"] = "on"
    """Image tokens of the cross-attention: CLIP's of the first frame, or zeros, which need no encoder."""
    background: Literal["latent", "model", "pixels"] = "latent"
    """How what lies outside the region is kept. `model`: by conditional video and mask alone, as the paper does; a
    model that is tuned little draws it anew. `latent`: after every step the latents outside are those of the source at
    that step's noise, so that outside the answer is the source as the VAE draws it. `pixels`: the source's own pixels
    are pasted over the answer of `latent`. The last two are not the paper's."""
    feather_px: int = Field(8, ge=0)
    """For `pixels`: width of the blend outside the region, pixels."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of the checkpoint that are needed."""
        return PARTS if self.clip_embedding == "on" else PARTS[:-1]

    def text(self, caption: str) -> str:
        """Return a caption behind the special token: [p*] + c."""
        return ", ".join(part for part in (self.token, caption.strip()) if part)


PARTS = ("transformer", "text_encoder", "vae", "image_encoder")
"""Parts of an image-to-video checkpoint."""


class LoraEditRuntime(DiffsynthRuntime):
    """Runtime of `LoraEdit`."""

    cache: str = ""
    """Folder of the tunings, one below for each clip, region and settings; by default `ffpdata/loraedit` in the user's
    cache (`XDG_CACHE_HOME`). Workers on several machines that shall go on with one another's work need a shared one."""
