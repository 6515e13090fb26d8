"""Fan a clip out into the edits to make: task, variant and seed (paper, section 3.1)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ffpdata.core.keys import digest
from ffpdata.core.stage import Child, Row, Stage, StageSettings


class EditPlan(BaseModel):
    """One edit to make of every clip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["removal", "swap"]
    variant: str = Field(pattern=r"^[a-z0-9_]+$")
    """How the region is given to the model; the stage `condition` says what the word means."""


class ProposeSettings(StageSettings):
    """Which edits to make."""

    edits: list[EditPlan] = [EditPlan(task="removal", variant="bbox"), EditPlan(task="swap", variant="mask")]
    """The paper's choice: removal with the bounding box, swap without."""
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
        """Return the edits. The seed follows from the clip and the edit, so that clips differ and reruns agree."""
        children = []
        for edit in self.settings.edits:
            seed = (int(digest(row["source_video"], edit.task, edit.variant)[:7], 16) + self.settings.seed) % 2**31
            columns = {"task": edit.task, "variant": edit.variant, "seed": seed}
            children.append(Child(f"{edit.task}/{edit.variant}", columns))
        return children
