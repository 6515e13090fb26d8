"""How the metrics of an evaluation are named, printed and ordered, and which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MetricName:
    """How a metric is shown.

    Attributes:
        words: for people.
        digits: after the point, as the papers print it.
        better: 1 where more is better, -1 where less is, 0 where neither is.
        of_source: the metric measures the source video, to stand beside that of the output.
    """

    words: str
    digits: int = 3
    better: Literal[-1, 0, 1] = 1
    of_source: bool = False


KNOWN = {
    "clip_consistency": MetricName("CLIP temporal", 4),
    "dino_consistency": MetricName("DINO temporal", 4),
    "frame_text": MetricName("Frame text"),
    "video_text": MetricName("Video text"),
    "pick_score": MetricName("PickScore"),
    "judge_score": MetricName("VLM score"),
    "judge_follows": MetricName("VLM: follows"),
    "judge_quality": MetricName("VLM: quality"),
    "judge_unedited": MetricName("VLM: unedited"),
    "input_similarity": MetricName("Input similarity", 4),
    "first_frame_similarity": MetricName("First frame", 4),
    "first_frame_similarity_rest": MetricName("First frame, rest", 4),
    "image_quality": MetricName("DeQA"),
    "source_clip_consistency": MetricName("CLIP temporal, source", 4, 0, of_source=True),
    "source_dino_consistency": MetricName("DINO temporal, source", 4, 0, of_source=True),
}
"""The order of the papers' tables; what else a table has follows in its own."""


def name_of(metric: str) -> MetricName:
    """Return how a metric is shown; of one that is not known here, neither way is better."""
    return KNOWN.get(metric) or MetricName(metric.replace("_", " "), 3, 0)


def ordered(metrics: Sequence[str]) -> list[str]:
    """Put the known ones first."""
    known = [name for name in KNOWN if name in metrics]
    return [*known, *(name for name in metrics if name not in KNOWN)]


def printed(metric: str, value: float | None) -> str:
    """Print a mean with the digits that its metric has; a dash where there is none."""
    return "\u2013" if value is None else f"{value:.{name_of(metric).digits}f}"
