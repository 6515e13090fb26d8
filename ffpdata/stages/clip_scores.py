"""Score clips by CLIP: how steady they are, how well they show their caption, how like their source they are."""

from __future__ import annotations

from ffpdata.stages._scores import MEASURED, ScoreStage

ROLE = "image_text_encoder"


class ClipScores(ScoreStage):
    """Write consistency, text alignment and likeness. Without a CLIP in the profile, items pass it without a row."""

    name, version = "clip_scores", 1
    role = ROLE
    writes = dict.fromkeys(MEASURED[ROLE][1], float)
    models = optional_models = (ROLE,)
