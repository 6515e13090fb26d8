"""What a round's model made of every removal: one row per item, kept so that rounds can be compared on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ffpdata.curate.verdicts import Decision

OK = "ok"


@dataclass(frozen=True)
class Outcome:
    """One removal under one model.

    Attributes:
        item_id: the edit.
        source_id: the source of its clip; edits of one source are not independent.
        pair: names the pair as this model made it (`curate.verdicts.pair_key`); verdicts are found by it.
        status: `ok` where every gate was passed, else `rejected` or `failed`.
        stage: the last one that it reached.
        reason: why it went no further.
        screen_score: 0..10; None where it was rejected before the screening.
        measures: numbers of the stage `measure` by name; those that were not measured are left out.
        seconds: how long the synthesis took.
        files: column to path in the run: `source_video`, `target_video`, `mask_video`; a target that was never made is
            left out.
        decision: what the reviewers decided about this very pair; None where nobody did.
    """

    item_id: str
    source_id: str
    pair: str
    status: str
    stage: str
    reason: str | None = None
    screen_score: float | None = None
    measures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    files: dict[str, str] = field(default_factory=dict)
    decision: Decision | None = None


Outcomes = Sequence[Outcome]
