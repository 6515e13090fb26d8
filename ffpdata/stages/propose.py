"""Fan a clip out into the edits to make: task, variant and seed (paper, section 3.1)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ffpdata.core.keys import digest
from ffpdata.core.stage import Child, Row, Stage, StageSettings


class EditPlan(BaseModel):
    """Task and variant of an edit that is made of every clip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["removal", "swap"]
    variant: str = Field(pattern=r"^[a-z0-9_]+$")
    """Name of the region's shape; `condition.variants` defines it."""


class ProposeSettings(StageSettings):
    """Edits of every clip."""

    edits: list[EditPlan] = [EditPlan(task="removal", variant="bbox"), EditPlan(task="swap", variant="mask")]
    """As in the paper: removal with the bounding box, swap without."""
    seed: int = 0
    """Added to every edit's own seed."""


class Propose(Stage):
    """Write one item per edit, `<clip>/<task>/<variant>`."""

    name, version = "propose", 1
    reads = ("source_video",)
    writes = {"task": str, "variant": str, "seed": int}
    fan_out = True
    Settings = ProposeSettings

    def expand(self, row: Row) -> list[Child]:
        """Return one child per edit. Its seed is a hash of clip and edit, so that clips differ and reruns agree."""
        children = []
        for edit in self.settings.edits:
            seed = (int(digest(row["source_video"], edit.task, edit.variant)[:7], 16) + self.settings.seed) % 2**31
            columns = {"task": edit.task, "variant": edit.variant, "seed": seed}
            children.append(Child(f"{edit.task}/{edit.variant}", columns))
        return children
