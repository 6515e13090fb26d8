"""Fan a clip out into the edits that are made of its first frame and carried on."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ffpdata.core.errors import nearest
from ffpdata.core.keys import digest
from ffpdata.core.stage import Child, Reject, Row
from ffpdata.stages._tasks import FRAME_TASKS
from ffpdata.stages.references import References, ReferencesSettings

STYLIZATION = "stylization"


class FrameEdit(BaseModel):
    """Task and variant of an edit that is made of the first frame of every clip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    variant: str = Field("whole", pattern=r"^[a-z0-9_]+$")
    """Name of the region's shape, where an object is outlined; `condition.variants` defines it. A stylization has the
    name of its image instead."""

    @field_validator("task")
    @classmethod
    def _known(cls, task: str) -> str:
        if task not in FRAME_TASKS:
            raise ValueError(f"no edit of a first frame {task!r}{nearest(task, FRAME_TASKS)}")
        return task


class ProposeFrameSettings(ReferencesSettings):
    """Edits of every clip, and number and size of the style images."""

    edits: list[FrameEdit] = [FrameEdit(task="modification", variant="mask"), FrameEdit(task=STYLIZATION)]
    seed: int = 0
    """Added to every local edit's own seed."""


class ProposeFrame(References):
    """Write one item per edit: `<clip>/<task>/<variant>`, and `<clip>/style/<id>` for each style image that it has."""

    name, version = "propose_frame", 1
    optional: ClassVar[tuple[str, ...]] = (*References.optional, "style_ids", "style_paths")
    added: ClassVar[tuple[str, ...]] = ()
    Settings = ProposeFrameSettings

    def expand(self, row: Row) -> list[Child]:
        """Return one child per edit. A clip without a style image has no stylization.

        Raises:
            Reject: `no_style_reference` where nothing but stylizations is asked for and there is no image for one.
        """
        children = []
        for edit in self.settings.edits:
            if edit.task == STYLIZATION:
                continue
            seed = (int(digest(row["source_video"], edit.task, edit.variant)[:7], 16) + self.settings.seed) % 2**31
            columns = {"task": edit.task, "variant": edit.variant, "seed": seed}
            children.append(Child(f"{edit.task}/{edit.variant}", columns))
        if any(edit.task == STYLIZATION for edit in self.settings.edits):
            try:
                children += super().expand(row)
            except Reject as err:
                if not children:
                    raise
                row.notes["no_stylization"] = str(err)
        return children
