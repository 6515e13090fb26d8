"""Score how good the frames of clips look, whatever they show: by DeQA, say."""

from __future__ import annotations

from ffpdata.stages._scores import MEASURED, ScoreStage

ROLE = "quality_scorer"


class QualityScores(ScoreStage):
    """Write the mean over the frames, 1 to 5. Without a scorer in the profile, items pass it without a row."""

    name, version = "quality_scores", 1
    role = ROLE
    reads = ("target_video",)
    optional = ()
    writes = dict.fromkeys(MEASURED[ROLE][1], float)
    models = optional_models = (ROLE,)
