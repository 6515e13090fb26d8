"""The local edits that a pipeline may make: which model makes each, and where in the clip."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LocalTask:
    """What the stages of a local edit need to know of its task.

    Attributes:
        role: model role that makes it: another remover redoes the removals only.
        removes: the object must not be painted back, and its removal is screened.
    """

    role: str
    removes: bool = False


TASKS = {
    "removal": LocalTask("remover", removes=True),
    "swap": LocalTask("swapper"),
}
"""Task to what is known of it; `propose.edits` names them. `discriminate` turns a swap into a modification afterwards.

A further source of pairs is another back end of a role, in its list beside the others: so will be an editor of the
first frame whose edit is carried on through the clip, an `Inpainter` that does both.
"""


def removes(task: str) -> bool:
    """Whether a task takes something away, so that its name must not come back and its place is screened."""
    return task in TASKS and TASKS[task].removes
