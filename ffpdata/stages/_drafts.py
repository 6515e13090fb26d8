"""What the stages that make small drafts of edits have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from ffpdata.core.stage import Artifact, ModelSpec, Reject, Row
from ffpdata.media.codec import write_video
from ffpdata.media.encoders import Encoder
from ffpdata.stages._tasks import known

if TYPE_CHECKING:
    from ffpdata.models.protocols import Edit

STYLIZER = "draft_stylizer"
EDITORS = ("draft_remover", "draft_swapper")
"""The edits of a role are drafted by `draft_<role>`: a cheaper model, or the same with cheaper settings."""

DRAFTED = ("draft_video", "draft_facts", "draft_refusal", "draft_refusal_detail")
"""Columns of a draft."""
WRITES: Mapping[str, Any] = dict(zip(DRAFTED, (Artifact("mp4"), dict, str, str), strict=True))


class DraftSize(BaseModel):
    """Size of a draft."""

    width: int = Field(320, ge=16)
    height: int = Field(180, ge=16)
    """Landscape size, turned for portrait clips. A clip that is smaller is drafted as it is. VACE and Wan need
    multiples of 16."""

    def size_for(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of the draft of a clip of this size."""
        wide, high = (self.height, self.width) if height > width else (self.width, self.height)
        return min(wide, width), min(high, height)


def drafted_by(specs: Mapping[str, ModelSpec], row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the role that drafts a row's task: one whose model is there and makes such edits, or none."""
    task = str(row["task"])
    role = STYLIZER if task == "stylization" else f"draft_{known(task).role}"
    if role not in specs:
        return ()
    makes = getattr(specs[role].load_class(), "tasks", (task,))
    return (role,) if task in makes else ()


def write_draft(row: Row, make: Callable[[], Edit], encoder: Encoder) -> dict[str, Any]:
    """Return the columns of a draft.

    What its model turns away is no rejection yet: `draft_check` decides, and has some of these made in full to see.
    """
    try:
        edit = make()
    except Reject as err:
        return {"draft_facts": dict(err.facts), "draft_refusal": err.reason, "draft_refusal_detail": err.detail}
    target = row.new_file("draft_video")
    write_video(target, edit.frames, row["fps"], encoder=encoder)
    return {"draft_video": target, "draft_facts": edit.facts}
