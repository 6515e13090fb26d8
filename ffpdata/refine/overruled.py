"""Whether a start of a run would replace the remover that its refinement promoted."""

from __future__ import annotations

import shlex

from ffpdata.core.config import Pipeline
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.refine import PROMOTED


def overruled(run: RunFolder, pipeline: Pipeline) -> str:
    """Return a warning where a refined run is about to make its removals by another model; else an empty text."""
    if not run.store.exists(PROMOTED):
        return ""
    from ffpdata.refine.round import ROLE
    from ffpdata.refine.rounds import promoted

    refined, given = promoted(run), pipeline.models.get(ROLE)
    if not refined or not given or given.identity() == refined.identity():
        return ""
    profile = ",".join(filter(None, (pipeline.profile, run.store.url(PROMOTED))))
    return (
        f"This run was refined, and this start makes all removals by {given.label} again. To keep those of the "
        f"refinement: --profile {shlex.quote(profile)}"
    )
