"""Settings of the refinement loop: `pipelines/refinement.yaml`."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from ffpdata.core.config import load_settings
from ffpdata.refine.compare import CompareSettings
from ffpdata.training.settings import LoraSettings

DEFAULT = "refinement"


class RefineSettings(BaseModel):
    """When a round begins, how it trains, and how it is compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = DEFAULT
    about: str = ""
    accepted: int = Field(200, ge=1)
    """Accepted removals that a round needs to begin; those of held-out sources do not count."""
    new_accepted: int = Field(50, ge=0)
    """How many of them the last round must not have trained on: the same samples would give the same model."""
    held_out: float = Field(0.2, gt=0, lt=1)
    """Fraction of the sources that no round trains on. Rounds are compared on the removals of these alone, because a
    model is best on what it was trained on."""
    seed: int = 0
    """Seed that chooses these sources. A changed seed holds out sources that earlier rounds trained on."""
    train: LoraSettings = LoraSettings()
    compare: CompareSettings = CompareSettings()


def load(name: str = DEFAULT, overrides: Sequence[str] = ()) -> RefineSettings:
    """Read settings and apply overrides.

    Args:
        name: of a file in `pipelines/`, or its path.
        overrides: as `a.b=c`.

    Raises:
        ConfigError: with file, line, value and the nearest valid name.
    """
    return load_settings(RefineSettings, name, overrides)
