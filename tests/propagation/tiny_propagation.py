"""A tiny Fun-Control that says who it is, recipes at its size, and the classes of its heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ffpdata.core.stage import ModelSpec
from ffpdata.models.propagation.heads import Heads
from ffpdata.models.propagation.propagator import PARTS, FunControl
from ffpdata.models.wan.loading import LoadPlan
from ffpdata.propagation.recipe import Recipe
from tests.models import tiny_wan as tiny

FRAMES, SIZE = 9, (160, 96)
MODEL: dict[str, Any] = {
    "frames": FRAMES,
    "rank": 2,
    "pool": 2,
    "predictor_width": 24,
    "predictor_heads": 2,
    "clip_embedding": "zero",
    "learning_rate": 2e-3,
    "epochs": 1.0,
}
TRAIN: dict[str, Any] = {
    "gpus": 0,
    "validation": 0,
    "measured": 1,
    "measure_draws": 1,
    "measure_every": 4,
    "save_every": 2,
    "latent_cache_gb": None,
}


class TinyFunControl(FunControl):
    """`FunControl` in a process whose diffsynth has to be told of the checkpoint first."""

    name = "tiny_fun_control"

    @classmethod
    def plan(cls, spec: ModelSpec, parts: Sequence[str] = ()) -> LoadPlan:
        tiny.know(Path(spec.model))
        return super().plan(spec, parts)

    @classmethod
    def training_plan(cls, spec: ModelSpec, parts: Sequence[str] = PARTS, *, device: str = "") -> LoadPlan:
        tiny.know(Path(spec.model))
        return super().training_plan(spec, parts, device=device)


def write_checkpoint(folder: Path) -> None:
    tiny.write_fun_control(folder)


def spec_of(checkpoint: Path, **settings: Any) -> ModelSpec:
    return ModelSpec(
        backend="tests.propagation.tiny_propagation:TinyFunControl",
        model=str(checkpoint),
        settings={"steps": 2, "guidance": 1.0, "dtype": "float32", **settings},
        runtime={"device": "cpu"},
    )


def recipe_of(
    preset: str = "baseline", *, data: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **train: Any
) -> Recipe:
    held_out = {"held_out": ["test"]}
    return Recipe(
        preset=preset, data={**held_out, **(data or {})}, model={**MODEL, **(model or {})}, train={**TRAIN, **train}
    )


def write_heads(path: Path, base: str, frames: int = FRAMES) -> Path:
    kinds = [[True, False, False, True], [False, True, False, True]]
    heads = Heads(
        base=base,
        width=SIZE[0],
        height=SIZE[1],
        frames=frames,
        epsilon=1e-6,
        timesteps=(500,),
        clips=("made up",),
        temporal=kinds,
        votes=[[int(kind) for kind in layer] for layer in kinds],
        margins=[[[0.1] * 4] * 2],
        density=[[[[0.5]] * 1] * 4] * 2,
    )
    path.write_text(heads.text())
    return path
