"""A tiny random Fun-Control checkpoint, and a pair to train on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffpdata.core.stage import ModelSpec
from ffpdata.models.propagation.settings import PropagationSettings, preset
from tests.models import tiny_wan as tiny

SHAPE = (9, 64, 64, 3)
TEMPORAL = [[True, False, False, True], [False, True, False, True]]
SMALL: dict[str, Any] = {"frames": 9, "rank": 2, "pool": 2, "predictor_width": 24, "predictor_heads": 2}


@pytest.fixture(scope="session")
def fun_control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("diffsynth", reason="the extra `models` is not installed")
    return tiny.write_fun_control(tmp_path_factory.mktemp("fun_control"))


@pytest.fixture(scope="session")
def spec(fun_control: Path) -> Callable[..., ModelSpec]:
    from ffpdata.models.propagation.propagator import FunControl

    def made(dtype: str = "float32", runtime: dict[str, Any] | None = None, **settings: Any) -> ModelSpec:
        return ModelSpec.of(
            FunControl,
            model=str(fun_control),
            settings={"steps": 2, "dtype": dtype, **settings},
            runtime={"device": "cpu", **(runtime or {})},
        )

    return made


@pytest.fixture(scope="session")
def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """A square that moves over noise, and the same square in another colour."""
    rng = np.random.default_rng(0)
    source = np.repeat(rng.integers(0, 256, (1, *SHAPE[1:]), np.uint8), SHAPE[0], 0)
    target = source.copy()
    for t in range(SHAPE[0]):
        source[t, 20:40, 8 + 3 * t : 28 + 3 * t] = (200, 30, 30)
        target[t, 20:40, 8 + 3 * t : 28 + 3 * t] = (30, 30, 200)
    return source, target, target[0].copy(), "a blue square"


@pytest.fixture(scope="session")
def load(spec: Callable[..., ModelSpec]) -> Callable[..., Any]:
    """Load some parts of the checkpoint, each time anew."""
    from ffpdata.models.propagation.propagator import FunControl
    from ffpdata.models.wan import loading

    def made(*parts: str, dtype: str = "float32") -> Any:
        return loading.load(FunControl.training_plan(spec(dtype), parts or ("transformer",)))

    return made


@pytest.fixture(scope="session")
def latents(load: Callable[..., Any], pair: tuple) -> dict[str, Any]:
    from ffpdata.models.propagation.training import PropagationEncoding

    pipe = load("text_encoder", "vae", "image_encoder")
    return PropagationEncoding(pipe, preset("full", **SMALL))(*pair)


@pytest.fixture
def training(load: Callable[..., Any]) -> Callable[..., Any]:
    from ffpdata.models.propagation.training import PropagationTraining

    def made(name: str = "full", dtype: str = "float32", **settings: Any) -> Any:
        found: PropagationSettings = preset(name, **{**SMALL, **settings})
        heads = TEMPORAL if found.ast_rope else None
        return PropagationTraining(load(dtype=dtype), settings=found, heads=heads, seed=1)

    return made
