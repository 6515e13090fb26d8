"""What a vision-language model's answers about frames of a pair come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CRITERIA = ("follows", "quality", "unedited")
"""Fields of an answer that count, 0 to 3 each."""
MOST = 3


def judged_frames(count: int, wanted: int) -> list[int]:
    """Return the frames that are judged: floor(i * count / wanted), frame 0 first; all of a clip that has fewer.

    The paper names 2 and 10 frames and no rule. This is ViCLIP's; the steps that EditVerse's evaluation takes give one
    frame more for some lengths.
    """
    return sorted({i * count // wanted for i in range(wanted)})


def judge_columns(answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean over the frames of each criterion, and of their sum, 0..9. The sum is ours: models add up wrongly.

    Raises:
        ValueError: there is no answer.
    """
    if not answers:
        raise ValueError("no answer to average")
    means = {name: sum(float(answer[name]) for answer in answers) / len(answers) for name in CRITERIA}
    return {
        "judge_score": round(sum(means.values()), 5),
        **{f"judge_{name}": round(means[name], 5) for name in CRITERIA},
    }
