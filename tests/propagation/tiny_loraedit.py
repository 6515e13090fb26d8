"""A tiny image-to-video model that says who it is, and a clip to tune it to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffpdata.core.stage import ModelSpec
from ffpdata.models.loraedit.region import spread
from ffpdata.models.wan.loading import LoadPlan
from ffpdata.propagation.loraedit import PARTS, LoraEdit
from tests.models import tiny_wan as tiny

SHAPE = (9, 64, 64, 3)
TUNING: dict[str, Any] = {
    "decoupling_steps": 3,
    "appearance_steps": 2,
    "rank": 2,
    "save_every": 1,
    "learning_rate": 1e-2,
    "gradient_checkpointing": "off",
}


class TinyLoraEdit(LoraEdit):
    """`LoraEdit` in a process whose diffsynth has to be told of the checkpoint first."""

    name = "tiny_loraedit"

    @classmethod
    def plan(cls, spec: ModelSpec, parts: Sequence[str] = ()) -> LoadPlan:
        tiny.know(Path(spec.model))
        return super().plan(spec, parts)

    @classmethod
    def training_plan(cls, spec: ModelSpec, parts: Sequence[str] = PARTS, *, device: str = "") -> LoadPlan:
        tiny.know(Path(spec.model))
        return super().training_plan(spec, parts, device=device)


def write_checkpoint(folder: Path) -> None:
    tiny.write_i2v(folder)


def spec_of(checkpoint: Path, cache: Path, tuning: dict[str, Any] | None = None, **settings: Any) -> ModelSpec:
    return ModelSpec(
        backend="tests.propagation.tiny_loraedit:TinyLoraEdit",
        model=str(checkpoint),
        settings={
            "steps": 2,
            "guidance": 1.0,
            "dtype": "float32",
            "clip_embedding": "zero",
            "tuning": {**TUNING, **(tuning or {})},
            **settings,
        },
        runtime={"device": "cpu", "cache": str(cache)},
    )


def clip() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A square on waves, its first frame with a blue square, and the region around it."""
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    waves = 128 + 60 * np.sin(x / 7)[..., None] * np.cos(y / 5)[..., None] * [1, 0.6, 0.3]
    frames = np.repeat(waves.astype(np.uint8)[None], SHAPE[0], 0)
    frames[:, 20:36, 20:36] = (200, 30, 30)
    edited = frames[0].copy()
    edited[20:36, 20:36] = (30, 30, 200)
    cells = np.zeros((SHAPE[0], SHAPE[1] // 8, SHAPE[2] // 8), bool)
    cells[:, 2:5, 2:5] = True
    return frames, edited, spread(cells)
