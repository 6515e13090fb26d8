"""The scores of a pair that need a trained model, by column: unit, good side, range and meaning."""

from __future__ import annotations

from dataclasses import dataclass

from ffpdata.metrics.metric import Better


@dataclass(frozen=True)
class LearnedScore:
    """One number of a clip by a model of a profile; the attributes are those of `metrics.metric.PairMetric`.

    Attributes:
        name: its column.
        role: of the model.
        unit: in words or symbols.
        better: which side is good.
        low, high: smallest and largest value.
        meaning: one line.
    """

    name: str
    role: str
    unit: str
    better: Better
    low: float
    high: float
    meaning: str


_CLIP, _DINO, _JUDGE = "image_text_encoder", "frame_encoder", "vision_language"

LEARNED: tuple[LearnedScore, ...] = (
    LearnedScore(
        *("clip_consistency", _CLIP, "cosine", "neither", 0, 1),
        "mean cosine of each target frame with the one before, by CLIP; 1 where nothing moves",
    ),
    LearnedScore(*("source_clip_consistency", _CLIP, "cosine", "neither", 0, 1), "the same of the source"),
    LearnedScore(
        *("frame_text", _CLIP, "100 x cosine", "higher", -100, 100),
        "mean over the target frames of the cosine with the caption, by CLIP",
    ),
    LearnedScore(
        *("input_similarity", _CLIP, "cosine", "neither", -1, 1),
        "mean cosine of each target frame with the same frame of the source, by CLIP",
    ),
    LearnedScore(
        *("first_frame_similarity", _CLIP, "cosine", "higher", -1, 1),
        "mean cosine of the target frames with the edited first frame, by CLIP",
    ),
    LearnedScore(
        *("first_frame_similarity_rest", _CLIP, "cosine", "higher", -1, 1), "the same without the target's frame 0"
    ),
    LearnedScore(
        *("dino_consistency", _DINO, "cosine", "neither", 0, 1),
        "mean cosine of each target frame with the one before, by DINOv2; 1 where nothing moves",
    ),
    LearnedScore(*("source_dino_consistency", _DINO, "cosine", "neither", 0, 1), "the same of the source"),
    LearnedScore(
        *("pick_score", "preference_scorer", "100 x cosine", "higher", -100, 100),
        "how well people would like the target frames for the caption, by PickScore; mean over the frames",
    ),
    LearnedScore(
        *("video_text", "video_text_encoder", "100 x cosine", "higher", -100, 100),
        "cosine of the target and the caption, by ViCLIP",
    ),
    LearnedScore(
        *("image_quality", "quality_scorer", "points", "higher", 1, 5),
        "how good the target frames look; mean over them",
    ),
    LearnedScore(
        *("judge_score", _JUDGE, "points", "higher", 0, 9), "sum of the three below, by the vision-language model"
    ),
    LearnedScore(*("judge_follows", _JUDGE, "points", "higher", 0, 3), "the edit does what the instruction says"),
    LearnedScore(*("judge_quality", _JUDGE, "points", "higher", 0, 3), "what was edited looks right"),
    LearnedScore(*("judge_unedited", _JUDGE, "points", "higher", 0, 3), "what should stay is as it was"),
)
"""In the order of their columns. Consistencies have no good side of their own: a still clip has the highest."""
