"""Let the vision-language model grade frames of a pair (the VLM score of the paper's tables)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from ffpdata.core.stage import Reject, Row, StageSettings
from ffpdata.media.clip_cache import cached_video
from ffpdata.metrics.judgement import CRITERIA, judge_columns, judged_frames
from ffpdata.stages._vision import VisionStage

ROLE, PROMPT = "vision_language", "judge"
COLUMNS = {**dict.fromkeys(("judge_score", *(f"judge_{name}" for name in CRITERIA)), float), "judge": str}


class JudgeSettings(StageSettings):
    """Which frames are graded."""

    frames: int = Field(10, ge=1)
    """Frames per pair, one question each (the paper: from 2 to 10)."""


class JudgeScores(VisionStage):
    """Write the grades. Without a model that looks in the profile, items pass the stage without a row."""

    name, version = "judge_scores", 1
    optional = ("instruction", "source_video")
    reads = ("target_video", *optional)
    writes = COLUMNS
    models = optional_models = (ROLE,)
    prompts = (PROMPT,)
    Settings = JudgeSettings

    @property
    def idle(self) -> bool:
        """Whether no model looks."""
        return not looks(self)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Pairs with a source and an instruction, where a model looks."""
        return looks(self) and can_be_judged(row)

    def setup(self) -> None:
        """Load the model, where it is asked."""
        if looks(self):
            super().setup()

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the grades, and by whom and how."""
        return judge(self, row, self.settings.frames)


def looks(stage: VisionStage) -> bool:
    """Whether the profile has a model that looks: one that measures, as the CPU's, can grade no picture."""
    spec = stage.specs.get(ROLE)
    return spec is not None and not getattr(spec.load_class(), "measures", False)


def can_be_judged(row: Mapping[str, Any]) -> bool:
    """Whether an item has all that the question shows."""
    return bool(row.get("instruction") and row.get("source_video"))


def judge(stage: VisionStage, row: Row, wanted: int) -> dict[str, Any]:
    """Ask about each of the frames of a pair, source and target of the same number beside each other.

    Args:
        stage: asks; its prompts have `judge`.
        row: has `instruction`, `source_video` and `target_video`.
        wanted: number of frames.

    Raises:
        Reject: `clips_differ`: they have different numbers of frames; or the reason for which an answer was none, with
            the frame that it was about.
    """
    source, target = (cached_video(row.file(name)) for name in ("source_video", "target_video"))
    if len(source) != len(target):
        raise Reject("clips_differ", f"{len(source)} frames of the source and {len(target)} of the target: align them")
    question = stage.questions[PROMPT]
    fields, answers = {"instruction": row["instruction"]}, []
    for number in judged_frames(len(target), wanted):
        shown = {"source": source[number], "target": target[number]}
        try:
            answers.append(stage.ask_about(row, question, shown, fields, note=f"{PROMPT}/{number}"))
        except Reject as err:
            raise Reject(err.reason, f"frame {number}: {err.detail}", err.facts) from None
    judged_by = f"{stage.specs[ROLE].label}, prompt {question.key[:8]}, {len(answers)} frames"
    return {**judge_columns(answers), "judge": judged_by}
