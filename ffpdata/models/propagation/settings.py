"""Settings of the model of first-frame propagation, FreeProp (paper, sections 4 and 5.1), and its ablations.

Where a default is the paper's, its docstring says so; the others are choices where the paper is silent. The settings
travel with a trained model: what its input and its positions are made of must be the same when it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ffpdata.core.errors import ConfigError, nearest

LAYERS = ("q", "k", "v", "o", "ffn.0", "ffn.2")
"""Ends of the names of the layers that a LoRA adapts: attention and the feed-forward network (diffsynth,
examples/wanvideo/model_training/lora/Wan2.1-Fun-V1.1-1.3B-Control.sh)."""


class PropagationSettings(BaseModel):
    """Input, positions, losses and optimisation of one model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # --- clip ---
    frames: int = Field(81, gt=1)
    """Frames of a clip, 4n+1. The paper trains two variants, of 33 and of 81 (section 5.1); of a longer clip the first
    are taken, because frame 0 is the edited one."""

    # --- input ---
    mask_channels: Literal[0, 1, 4] = 1
    """Channels of the first-frame mask: the paper's M of F' x H' x W' is one, 4 is Wan's folding, 0 leaves it out."""
    clip_embedding: Literal["on", "zero"] = "on"
    """Image tokens of the cross-attention: CLIP's of the edited first frame, or zeros, which need no encoder."""
    reference_tokens: Literal["none", "zero"] = "none"
    """Tokens that a Fun-Control V1.1 has before those of the clip: left out, or those of a zero latent, as VideoX-Fun
    adds them where there is no reference image."""

    # --- AST-RoPE ---
    ast_rope: bool = True
    """Scale the temporal positions of spatial and temporal heads (section 4.2)."""
    alpha_s: float = Field(0.018, gt=0, lt=1)
    """First value of the spatial factor, a sigmoid: 0 is the base model, 1 puts frame 0 behind the last."""
    alpha_t: float = Field(1.0, gt=0, lt=2)
    """First value of the temporal factor, twice a sigmoid: 1 is the base model."""
    predictor_patch: int = Field(8, ge=1)
    """Latent pixels of a token of the predictor, each way."""
    predictor_width: int = Field(256, ge=12, multiple_of=4)
    predictor_layers: int = Field(2, ge=1)
    predictor_heads: int = Field(4, ge=1)

    # --- losses ---
    distillation: bool = True
    """Align features with those of the identity task (section 4.3)."""
    motion_weight: float = Field(5.0, ge=0)
    """Weight of the loss on relations between frames (the paper's)."""
    mmd_weight: float = Field(1.0, ge=0)
    """Weight of the loss on the drift from the first frame (the paper's)."""
    tap_block: int = Field(0, ge=0)
    """Block whose output is aligned, from 1; 0 takes 0.6 of the depth: 18 of 30, as VideoREPA."""
    pool: int = Field(5, ge=1)
    """Tokens averaged into one each way, the paper's K_S: 45 x 80 become 9 x 16."""
    sigma: float = Field(0.0, ge=0)
    """Bandwidth of MMD's kernel; 0 takes the median distance within the teacher's first frame."""
    identity_share: float = Field(0.1, ge=0, le=1)
    """Share of samples on which the identity task itself is learned, without which the teacher is not taught it."""
    text_dropout: float = Field(0.1, ge=0, le=1)
    """Share of samples without their text, for guidance."""
    shift: float = Field(5.0, gt=0)
    """Of the schedule from which timesteps are drawn, and of sampling (diffsynth's for Wan)."""

    # --- optimisation ---
    rank: int = Field(128, ge=0)
    """Of the LoRA (the paper's); 0 trains every weight of the transformer."""
    layers: tuple[str, ...] = LAYERS
    learning_rate: float = Field(2e-4, gt=0)
    """AdamW's, at its highest (the paper's)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """The paper's is cosine."""
    epochs: float = Field(2.0, gt=0)
    """The paper's."""
    warmup: float = Field(0.03, ge=0, le=1)
    """Share of the steps over which the learning rate rises."""
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    gradient_checkpointing: Literal["off", "on", "offload"] = "on"
    """A block saves everything for the backward pass, only its input, or its input in main memory."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.frames % 4 != 1:
            raise ValueError(f"frames {self.frames}: the model takes 4n+1, e.g. 33 or 81 as in the paper")
        if self.predictor_width % self.predictor_heads:
            raise ValueError(f"predictor_width {self.predictor_width} does not divide by {self.predictor_heads} heads")
        return self

    def tapped(self, blocks: int) -> int:
        """Return the tapped block of a transformer, from 1.

        Raises:
            ConfigError: it has fewer blocks.
        """
        tap = self.tap_block or max(1, round(TAPPED * blocks))
        if tap > blocks:
            raise ConfigError(f"tap_block is {tap}, the transformer has {blocks} blocks: 1 to {blocks}, 0 chooses")
        return tap


TAPPED = 0.6
"""Depth of the tapped block: VideoREPA aligns block 18 of 30 (section 4.3 builds on it and names none)."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "baseline": {"ast_rope": False, "distillation": False, "identity_share": 0.0},
    "ast_rope": {"ast_rope": True, "distillation": False, "identity_share": 0.0},
    "full": {"ast_rope": True, "distillation": True},
}
"""The rows of the paper's ablation (Table 3), as settings."""


def preset(name: str, **settings: Any) -> PropagationSettings:
    """Return the settings of an ablation row.

    Args:
        name: of `PRESETS`.
        settings: laid over them.

    Raises:
        ConfigError: there is no such row.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}{nearest(name, PRESETS)}: there are {', '.join(PRESETS)}")
    return PropagationSettings(**{**PRESETS[name], **settings})
