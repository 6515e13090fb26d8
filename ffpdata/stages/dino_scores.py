"""Score by DINOv2 how steady clips are, and their sources."""

from __future__ import annotations

from ffpdata.stages._scores import MEASURED, ScoreStage

ROLE = "frame_encoder"


class DinoScores(ScoreStage):
    """Write the consistency. Without a DINOv2 in the profile, items pass it without a row."""

    name, version = "dino_scores", 1
    role = ROLE
    optional = ("source_video",)
    reads = ("target_video", *optional)
    writes = dict.fromkeys(MEASURED[ROLE][1], float)
    models = optional_models = (ROLE,)
