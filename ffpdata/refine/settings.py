"""What the refinement loop can be told: `pipelines/refinement.yaml`."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from ffpdata.core.config import load_settings
from ffpdata.refine.compare import CompareSettings
from ffpdata.training.job import TrainSettings

DEFAULT = "refinement"


class RefineSettings(BaseModel):
    """How a round is made and judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = DEFAULT
    about: str = ""
    accepted: int = Field(200, ge=1)
    """Accepted removals to train on, those of held-out sources not counted, before a round begins."""
    new_accepted: int = Field(50, ge=0)
    """How many of them the round before was not trained on: the same again would teach the same."""
    held_out: float = Field(0.2, gt=0, lt=1)
    """Fraction of the sources that no round trains on. Rounds are compared on their removals alone, because a model is
    at its best on what it was trained on."""
    seed: int = 0
    """Chooses these sources. Another seed lets the model be judged on what it was trained on before."""
    train: TrainSettings = TrainSettings()
    compare: CompareSettings = CompareSettings()


def load(name: str = DEFAULT, overrides: Sequence[str] = ()) -> RefineSettings:
    """Read the settings of a name or file, with `a.b=c` laid over them.

    Raises:
        ConfigError: with file, line, value and the nearest valid name.
    """
    return load_settings(RefineSettings, name, overrides)
