"""The scores of a clip that need a trained encoder: which columns each role fills, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ffpdata.core.stage import Row, Stage
from ffpdata.media.clip_cache import cached_video
from ffpdata.media.codec import read_image
from ffpdata.metrics.frame_consistency import frame_consistency
from ffpdata.metrics.frame_similarity import first_frame_similarity, input_similarity
from ffpdata.metrics.text_alignment import frame_text, video_text

if TYPE_CHECKING:
    from ffpdata.models.protocols import (
        FrameEncoder,
        ImageTextEncoder,
        PreferenceScorer,
        QualityScorer,
        VideoTextEncoder,
    )

CAPTIONS = ("target_caption", "style_caption")
"""Columns that say what the edited clip shows, the first that is there counts: a stylization has the second."""
OPTIONAL = ("source_video", "edited_first_frame", *CAPTIONS)
DIGITS = 5

Columns = dict[str, float | None]


def caption_of(row: Mapping[str, Any]) -> str:
    """Return what the edited clip is to show, in words; empty where no column says so."""
    return next((str(row[name]) for name in CAPTIONS if row.get(name)), "")


def clip_columns(model: ImageTextEncoder, row: Row) -> Columns:
    """Score by CLIP; columns of what an item lacks are None: a source, a caption.

    The edited first frame is that of the item, which a propagation was given, else the edited clip's own frame 0.
    """
    target = model.encode_frames(cached_video(row.file("target_video")))
    source = _of_source(model.encode_frames, row)
    first = target.projected[0]
    if row.get("edited_first_frame"):
        first = model.encode_frames(read_image(row.file("edited_first_frame"))[None]).projected[0]
    with_first, rest = first_frame_similarity(target.projected, first)
    text = caption_of(row)
    return {
        "clip_consistency": frame_consistency(target.pooled),
        "source_clip_consistency": frame_consistency(source.pooled) if source else None,
        "frame_text": frame_text(target.projected, model.encode_text(text), model.logit_scale) if text else None,
        "input_similarity": input_similarity(source.projected, target.projected) if source else None,
        "first_frame_similarity": with_first,
        "first_frame_similarity_rest": rest,
    }


def dino_columns(model: FrameEncoder, row: Row) -> Columns:
    """Score by DINOv2."""
    source = _of_source(model.encode_frames, row)
    return {
        "dino_consistency": frame_consistency(model.encode_frames(cached_video(row.file("target_video")))),
        "source_dino_consistency": None if source is None else frame_consistency(source),
    }


def pick_columns(model: PreferenceScorer, row: Row) -> Columns:
    """Score by PickScore: the mean over the frames; None without a caption."""
    text = caption_of(row)
    found = model.score(cached_video(row.file("target_video")), text) if text else None
    return {"pick_score": None if found is None else _mean(found)}


def video_text_columns(model: VideoTextEncoder, row: Row) -> Columns:
    """Score by ViCLIP; None without a caption."""
    text = caption_of(row)
    if not text:
        return {"video_text": None}
    clip = model.encode_clip(cached_video(row.file("target_video")))
    return {"video_text": video_text(clip, model.encode_text(text))}


def quality_columns(model: QualityScorer, row: Row) -> Columns:
    """Score how the frames look: the mean over them."""
    return {"image_quality": _mean(model.score(cached_video(row.file("target_video"))))}


MEASURED: dict[str, tuple[Callable[[Any, Row], Columns], tuple[str, ...]]] = {
    "image_text_encoder": (
        clip_columns,
        (
            *("clip_consistency", "source_clip_consistency", "frame_text", "input_similarity"),
            *("first_frame_similarity", "first_frame_similarity_rest"),
        ),
    ),
    "frame_encoder": (dino_columns, ("dino_consistency", "source_dino_consistency")),
    "preference_scorer": (pick_columns, ("pick_score",)),
    "video_text_encoder": (video_text_columns, ("video_text",)),
    "quality_scorer": (quality_columns, ("image_quality",)),
}
"""Role to the function that scores by it, and the columns that it fills."""

SCORES = tuple(name for _, columns in MEASURED.values() for name in columns)


def scores_by(role: str, model: Any, row: Row) -> Columns:
    """Return the columns of a role, rounded.

    Raises:
        ValueError: a score is not finite.
    """
    found = MEASURED[role][0](model, row)
    if wrong := [name for name, value in found.items() if value is not None and not np.isfinite(value)]:
        raise ValueError(f"{wrong[0]} is {found[wrong[0]]}: set the dtype of the role {role} to float32")
    return {name: None if value is None else round(value, DIGITS) for name, value in found.items()}


class ScoreStage(Stage):
    """A stage that scores by one encoder. Without it in the profile, items pass the stage without a row."""

    role: ClassVar[str]
    optional: ClassVar[tuple[str, ...]] = OPTIONAL
    reads: ClassVar[tuple[str, ...]] = ("target_video", *OPTIONAL)

    def applies(self, row: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """All items, where there is the encoder."""
        return self.role in self.specs

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the scores."""
        return scores_by(self.role, self.model(self.role), row)


def _of_source(encode: Callable[[Any], Any], row: Row) -> Any:
    return encode(cached_video(row.file("source_video"))) if row.get("source_video") else None


def _mean(values: Any) -> float:
    return float(np.asarray(values, np.float64).mean())
