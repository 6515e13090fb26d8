"""Decide by a draft whether an edit is made in full; a share of those rejected is made all the same, as an audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ffpdata.core.keys import digest
from ffpdata.core.stage import ModelSpec, Reject, Row, Stage, StageSettings
from ffpdata.media.clip_cache import cached_masks, cached_video
from ffpdata.media.codec import read_video
from ffpdata.media.shrink import shrunk
from ffpdata.metrics.limits import Limits, beyond
from ffpdata.metrics.vector import VECTOR
from ffpdata.stages._drafts import DRAFTED, EDITORS, STYLIZER, drafted_by
from ffpdata.stages.measure import METRICS, basic_numbers, pair_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ffpdata.core.prompt import Prompt
    from ffpdata.models.protocols import Frames, Masks


class DraftCheckSettings(StageSettings):
    """Limits per task, and how many of the rejected drafts are audited. None of them makes a draft anew."""

    limits: dict[str, Limits] = {}
    """Task to number to bounds: numbers of `measure`, taken of the draft at its size, and of `draft_facts`."""
    measured: list[str] = []
    """Further numbers of `measure` that are noted, to choose limits by."""
    refusals: bool = True
    """Whether an edit is rejected whose draft the model itself turned away."""
    audit: float = Field(0.05, ge=0, le=1)
    """Share of the rejected edits that are made in full all the same, chosen by hash: from them the report tells how
    many good pairs are lost. A larger share keeps those that a smaller one chose."""
    audit_seed: int = 0
    """Another one chooses others."""
    step: int = Field(4, ge=1)
    """Distance between the frames that are measured, as in `measure`."""


class DraftCheck(Stage):
    """Write what the draft measures, what is wrong with it, and whether the edit goes on as an audit.

    `draft_fault` is the reason that a rejection has, or would have had, were it not audited.
    """

    name, version = "draft_check", 1
    optional = (*DRAFTED, "condition_mask", "mask_video")
    reads = ("source_video", "task", "seed", *optional)
    writes = {"draft_metrics": dict, "draft_fault": str, "draft_audited": bool}
    facts_column = "draft_metrics"
    Settings = DraftCheckSettings

    def __init__(
        self,
        settings: StageSettings | None = None,
        specs: Mapping[str, ModelSpec] | None = None,
        prompts: Mapping[str, Prompt] | None = None,
        **values: Any,
    ) -> None:
        super().__init__(settings, specs, prompts, **values)
        # It asks no model, so that none counts in its key; it only needs to know whether there are drafts.
        self._drafts = {role: spec for role, spec in (specs or {}).items() if role in (*EDITORS, STYLIZER)}

    @property
    def idle(self) -> bool:
        """Whether the profile drafts nothing."""
        return not self._drafts

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Edits that have a draft."""
        return bool(drafted_by(self._drafts, row))

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the numbers of the draft; an edit whose draft shows a fault is rejected, or goes on as an audit."""
        limits = self.settings.limits.get(row["task"], {})
        numbers = {**(row.get("draft_facts") or {})}
        if row.get("draft_video"):
            numbers |= self._measured(row, {*limits, *self.settings.measured})
        columns: dict[str, Any] = {"draft_metrics": numbers, "draft_audited": False}
        found = beyond(limits, numbers)
        if row.get("draft_refusal") and self.settings.refusals:
            found = str(row["draft_refusal"]), str(row.get("draft_refusal_detail") or "")
        if found is None:
            return columns
        reason, detail = found
        columns |= {"draft_fault": reason}
        if chance(self.settings.audit_seed, row["source_video"], row["task"], row["seed"]) < self.settings.audit:
            return columns | {"draft_audited": True}
        raise Reject(reason, f"its draft: {detail}", columns)

    def _measured(self, row: Row, names: set[str]) -> dict[str, float]:
        """The numbers of these names; nothing is measured that none of them asks for."""
        draft = read_video(row.file("draft_video"))
        height, width = draft.shape[1:3]

        def small(array: Frames | Masks) -> Any:
            return shrunk(array, width, height)

        source = small(cached_video(row.file("source_video")))
        condition = small(cached_masks(row.file("condition_mask"))) if row.get("condition_mask") else None
        has_outline = condition is not None and row.get("mask_video")
        outline = small(cached_masks(row.file("mask_video"))) if has_outline else None
        found: dict[str, float] = {}
        if names & set(METRICS):
            found |= basic_numbers(source, draft, row["task"], condition, outline, step=self.settings.step)
        wanted: Sequence[Any] = [metric for metric in VECTOR if metric.name in names]
        pair = pair_of(source, draft, row["task"], condition, outline)
        for metric in wanted:
            if (value := metric.measure(pair)) is not None:
                found[metric.name] = value
        return {name: value for name, value in found.items() if name in names}


def chance(*parts: Any) -> float:
    """Return a number of 0..1 that belongs to these values."""
    return int(digest(*parts)[:13], 16) / 16**13
