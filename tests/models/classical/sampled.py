"""The ground-truth scenes at a size that tests can afford, drawn once per run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ffpdata.core.stage import ModelSpec
from ffpdata.media.geometry import Geometry
from ffpdata.sample.scenes import SCENES, render

SPEC = ModelSpec(backend="tests:none")


@dataclass(frozen=True)
class Drawn:
    frames: NDArray[np.uint8]
    background: NDArray[np.uint8]
    masks: NDArray[np.bool_]


@cache
def drawn(name: str, width: int = 320, height: int = 192, frames: int = 33) -> Drawn:
    scene = next(s for s in SCENES if s.name == name)
    parts = zip(*render(scene, Geometry(width=width, height=height, frames=frames)), strict=True)
    return Drawn(*(np.stack(part) for part in parts))


def psnr(clip: NDArray[np.uint8], truth: NDArray[np.uint8], where: NDArray[np.bool_]) -> float:
    error = clip[where].astype(np.float64) - truth[where]
    return float(10 * np.log10(255**2 / max(np.mean(error * error), 1e-9)))


def spec(**settings: object) -> ModelSpec:
    return SPEC.model_copy(update={"settings": settings})
