"""What the encoders of this room take in a profile, and how they are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ffpdata.models.requirements import Checkpoint, Requirements, wants_gpu
from ffpdata.models.settings import BackendSettings, DeviceRuntime
from ffpdata.models.weights import Dtype

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec

REMEDY = "Set the role's runtime batch lower."
"""Advice where the memory of a GPU does not suffice."""

TEXT_FILES = ("*.json", "*.txt")
"""Files of a repository of which only the processor is used: sizes, vocabularies, merges."""


class EncoderSettings(BackendSettings):
    """Settings of an encoder: what its numbers depend on."""

    dtype: Dtype = "float32"
    """Of weights and arithmetic; `float32` is what published scores were computed in."""


class EncoderRuntime(DeviceRuntime):
    """Runtime of an encoder."""

    batch: int = Field(16, ge=1)
    """Frames per pass."""


def encoder_needs(spec: ModelSpec, *more: Checkpoint) -> Requirements:
    """Return the packages and checkpoints of an encoder: its weights, and `more`."""
    weights = Checkpoint("weights", spec.model, spec.revision)
    return Requirements(packages=("torch", "transformers"), checkpoints=(weights, *more), gpu=wants_gpu(spec))
