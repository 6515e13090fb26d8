"""Score clips by PickScore: how well people would like their frames for their caption."""

from __future__ import annotations

from ffpdata.stages._scores import CAPTIONS, MEASURED, ScoreStage

ROLE = "preference_scorer"


class PickScores(ScoreStage):
    """Write the mean over the frames. Without a PickScore in the profile, items pass it without a row."""

    name, version = "pick_scores", 1
    role = ROLE
    optional = CAPTIONS
    reads = ("target_video", *optional)
    writes = dict.fromkeys(MEASURED[ROLE][1], float)
    models = optional_models = (ROLE,)
