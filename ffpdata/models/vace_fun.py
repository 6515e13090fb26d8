"""VACE on Wan 2.2 (alibaba-pai/Wan2.2-VACE-Fun-A14B): one transformer for noisy steps, then another for clean ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from ffpdata.models.vace import DiffsynthVace, VaceSettings
from ffpdata.models.wan.checkpoint_files import HIGH_NOISE, LOW_NOISE

if TYPE_CHECKING:
    from ffpdata.models.wan.settings import TeaCache

BOUNDARY = 0.875
"""Time from 1 to 0 below which the second transformer takes over (VideoX-Fun, config/wan2.2/wan_civitai_t2v.yaml)."""


class VaceFunSettings(VaceSettings):
    """Settings of `VaceFun`, with the defaults of VideoX-Fun's predict_v2v_mask.py (sampler Flow, which is Euler)."""

    two_transformers: ClassVar[bool] = True
    shift: float = Field(5.0, gt=0)
    boundary: float = Field(BOUNDARY, gt=0, lt=1)
    """Steps at a time of at least this are the first transformer's, the others the second's."""

    @field_validator("tea_cache")
    @classmethod
    def _no_cache(cls, tea_cache: TeaCache | None) -> None:
        if tea_cache is not None:
            raise ValueError("a residual of one transformer would be added to the other's states: leave it out")

    def sampling(self) -> dict[str, Any]:
        """Return the fields of a `Request` that these settings define."""
        return super().sampling() | {"boundary": self.boundary}


class VaceFun(DiffsynthVace):
    """Wan2.2-VACE-Fun-A14B by diffsynth, for the roles `remover`, `swapper` and `stylizer`.

    Its checkpoint has the folders `high_noise_model` and `low_noise_model`, each a whole VACE 14B. LoRAs go onto both,
    or onto the one that their `noise` names. With runtime offload `models` only the transformer at work is on the card.
    """

    name = "vace_fun"
    version: int = 1
    Settings = VaceFunSettings
    settings: VaceFunSettings
    parts = (HIGH_NOISE, LOW_NOISE, "text_encoder", "vae")
