"""The local edits that a pipeline may make: which model makes each, and where in the clip."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LocalTask:
    """What the stages of a local edit need to know of its task.

    Attributes:
        role: model role that makes it: another remover redoes the removals only.
        removes: the object goes: its name stands in the negative prompt.
        screened: `screen` grades it.
        around: the edit is around the object and not in its place.
        reference: a picture shows what comes in its place.
    """

    role: str
    removes: bool = False
    screened: bool = False
    around: bool = False
    reference: bool = False


TASKS = {
    "removal": LocalTask("remover", removes=True, screened=True),
    "swap": LocalTask("swapper"),
    "reference_swap": LocalTask("swapper", screened=True, reference=True),
    "background": LocalTask("swapper", screened=True, around=True),
    "text_removal": LocalTask("remover", removes=True, screened=True),
}
"""Task to what is known of it; `propose.edits` names them. `discriminate` turns a swap into a modification afterwards.

A further source of pairs is another back end of a role, in its list beside the others. Edits that are made of the first
frame and carried on through the clip are another way, with stages of its own: `FRAME_TASKS`.
"""

FRAME_TASKS = ("swap", "modification", "addition", "stylization")
"""Edits of a first frame that a propagator carries through the clip; `propose_frame.edits` names them."""
UNOUTLINED = ("addition", "stylization")
"""Tasks without an object that is there already: a new one comes, or all of the picture changes."""


def outlined(task: object) -> bool:
    """Whether a task concerns an object of the source, which is outlined and outside of which nothing may change."""
    return task not in UNOUTLINED


def known(task: str) -> LocalTask:
    """Return what is known of a task; of one that other stages made, such as a modification, nothing but its name."""
    return TASKS.get(task, LocalTask(""))
