"""Score a finished pair in the terms in which models are judged: every encoder of the profile in one stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.core.stage import Row, StageSettings
from ffpdata.stages._scores import CAPTIONS, MEASURED, SCORES, scores_by
from ffpdata.stages._vision import VisionStage
from ffpdata.stages.judge_scores import COLUMNS, PROMPT, can_be_judged, judge, looks
from ffpdata.stages.judge_scores import ROLE as JUDGE


class AssessSettings(StageSettings):
    """What is scored beside what the profile has encoders for."""

    judge: bool = False
    """Whether the vision-language model grades frames: as many questions a pair as `frames`."""
    frames: int = Field(10, ge=1)
    """Frames that it grades."""


class Assess(VisionStage):
    """Write the scores of all encoders that the profile has, and the judge's where it is asked for.

    No score ends an item: what cannot be judged has no grades, and a note says why. Without any encoder in the profile,
    items pass the stage without a row.
    """

    name, version = "assess", 1
    optional = ("source_video", "edited_first_frame", "instruction", *CAPTIONS)
    reads = ("target_video", *optional)
    writes: ClassVar[dict[str, Any]] = {**dict.fromkeys(SCORES, float), **COLUMNS}
    models = optional_models = (*MEASURED, JUDGE)
    prompts = (PROMPT,)
    Settings = AssessSettings

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self._judged = self.settings.judge and looks(self)
        self._encoders = tuple(role for role in MEASURED if role in self.specs)
        if not self._judged:  # nothing of the judge's then counts in a key
            self.questions = {}
            self.specs = {role: self.specs[role] for role in self._encoders}

    @property
    def idle(self) -> bool:
        """Whether there is nothing to score by."""
        return not (self._encoders or self._judged)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """All pairs, where there is an encoder; those that can be judged, where there is a judge alone."""
        return bool(self._encoders) or (self._judged and can_be_judged(row))

    def roles(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the encoders that the profile has, and the judge where it grades this pair."""
        return (*self._encoders, *((JUDGE,) if self._judged and can_be_judged(row) else ()))

    def setup(self) -> None:
        """Load what is used."""
        for role in self.specs:
            self.model(role)

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return all scores."""
        columns: dict[str, Any] = {}
        for role in self._encoders:
            columns |= scores_by(role, self.model(role), row)
        if self._judged and can_be_judged(row):
            try:
                columns |= judge(self, row, self.settings.frames)
            except Reject as err:
                row.notes["not_judged"] = f"{err.reason}: {err.detail}"
        return columns
