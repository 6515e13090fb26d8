"""Score by ViCLIP how well clips, as a whole, show their caption."""

from __future__ import annotations

from ffpdata.stages._scores import CAPTIONS, MEASURED, ScoreStage

ROLE = "video_text_encoder"


class VideoTextScores(ScoreStage):
    """Write the alignment. Without a ViCLIP in the profile, items pass it without a row."""

    name, version = "video_text_scores", 1
    role = ROLE
    optional = CAPTIONS
    reads = ("target_video", *optional)
    writes = dict.fromkeys(MEASURED[ROLE][1], float)
    models = optional_models = (ROLE,)
