"""Fan a clip out into the edits to make: task, variant, back end and seed (paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from ffpdata.core.errors import nearest
from ffpdata.core.keys import digest
from ffpdata.core.stage import Child, Row, Stage, StageSettings
from ffpdata.stages._tasks import TASKS


class EditPlan(BaseModel):
    """Task and variant of an edit that is made of every clip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    variant: str = Field(pattern=r"^[a-z0-9_]+$")
    """Name of the region's shape; `condition.variants` defines it."""

    @field_validator("task")
    @classmethod
    def _known(cls, task: str) -> str:
        if task not in TASKS:
            raise ValueError(f"no task {task!r}{nearest(task, TASKS)}")
        return task


class ProposeSettings(StageSettings):
    """Edits of every clip."""

    edits: list[EditPlan] = [EditPlan(task="removal", variant="bbox"), EditPlan(task="swap", variant="mask")]
    """As in the paper: removal with the bounding box, swap without."""
    seed: int = 0
    """Added to every edit's own seed."""
    back_ends: Mapping[str, list[str]] = {}
    """Role to the names of its back ends, where it has several: each makes the edits of its tasks, with the same seed.
    A pipeline takes them from the lists in its `models`."""

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without lists nothing is said of them, so that keys are those of a pipeline that knows no lists."""
        plain: dict[str, Any] = handler(self)
        return plain if self.back_ends else {name: value for name, value in plain.items() if name != "back_ends"}


class Propose(Stage):
    """Write one item per edit, `<clip>/<task>/<variant>`, and `-<back end>` behind it where the role has several."""

    name, version = "propose", 1
    reads = ("source_video",)
    writes = {"task": str, "variant": str, "back_end": str, "seed": int}
    fan_out = True
    Settings = ProposeSettings

    def expand(self, row: Row) -> list[Child]:
        """Return one child per edit. Its seed is a hash of clip and edit, so that clips differ and reruns agree."""
        children = []
        for edit in self.settings.edits:
            seed = (int(digest(row["source_video"], edit.task, edit.variant)[:7], 16) + self.settings.seed) % 2**31
            for name in self.settings.back_ends.get(TASKS[edit.task].role, [""]):
                columns = {"task": edit.task, "variant": edit.variant, "back_end": name or None, "seed": seed}
                children.append(Child(f"{edit.task}/{edit.variant}" + (f"-{name}" if name else ""), columns))
        return children
