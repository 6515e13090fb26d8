"""The recipe of a training on an export: `pipelines/freeprop.yaml`."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from ffpdata.core.config import load_settings
from ffpdata.core.errors import ConfigError, nearest
from ffpdata.models.propagation.settings import PRESETS, PropagationSettings
from ffpdata.models.settings import parse
from ffpdata.training.settings import LoopSettings

DEFAULT = "freeprop"


class DataSettings(BaseModel):
    """Which pairs of the export are learned from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    splits: list[str] = ["train"]
    held_out: list[str] = ["validation"]
    """Splits whose samples are measured and drawn; an export without them has none."""
    tasks: list[str] = []
    """Tasks to learn; empty takes all. The paper's data has removal, swap, modification, addition and stylization."""
    min_score: float = Field(0.0, ge=0, le=1)
    """Leave out pairs whose score, the probability that a person would accept them, is lower."""


class RunSettings(BaseModel):
    """How the training is run; what these are is said in `training.settings.LoopSettings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int | None = Field(None, ge=1)
    """Optimizer steps in place of the model's epochs."""
    accumulate: int = Field(1, ge=1)
    save_every: int = Field(200, ge=1)
    seed: int = Field(0, ge=0)
    gpus: int = Field(1, ge=0)
    nodes: int = Field(1, ge=1)
    latent_cache_gb: float | None = Field(200.0, gt=0)
    validation: int = Field(4, ge=0)
    measured: int = Field(8, ge=0)
    measure_every: int = Field(200, ge=1)
    measure_draws: int = Field(4, ge=1)


class Recipe(BaseModel):
    """What is trained, on what, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = DEFAULT
    about: str = ""
    profile: str = "gpu"
    """Whose `propagator` is the base."""
    preset: str = "full"
    """Row of the paper's ablation that `model` is laid over: `baseline`, `ast_rope` or `full`."""
    heads: str = ""
    """File of the heads' classes, which `ffpdata heads` makes; needed with AST-RoPE."""
    data: DataSettings = DataSettings()
    model: dict[str, object] = {}
    """`PropagationSettings` that differ from the preset's."""
    train: RunSettings = RunSettings()

    def model_settings(self) -> PropagationSettings:
        """Return the settings of the model: the preset's, with `model` laid over them.

        Raises:
            ConfigError: there is no such preset, or a setting is not valid.
        """
        if self.preset not in PRESETS:
            raise ConfigError(f"no preset {self.preset!r}{nearest(self.preset, PRESETS)}")
        own = dict(PRESETS[self.preset]) | self.model
        return parse(PropagationSettings, own, f"model of the recipe {self.name}")

    def loop_settings(self) -> LoopSettings:
        """Return the settings of the training loop: those of the optimisation are the model's."""
        model = self.model_settings()
        return LoopSettings(
            learning_rate=model.learning_rate,
            schedule=model.schedule,
            warm_up=model.warmup,
            clip_norm=model.clip_norm,
            weight_decay=model.weight_decay,
            epochs=None if self.train.steps else model.epochs,
            gradient_checkpointing=model.gradient_checkpointing,
            **self.train.model_dump(),
        )


def load(name: str = DEFAULT, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        name: of a file in `pipelines/`, or its path.
        overrides: as `a.b=c`.

    Raises:
        ConfigError: with file, line, value and the nearest valid name.
    """
    return load_settings(Recipe, name, overrides)
