"""Whether a start of a run would replace the remover that its refinement promoted."""

from __future__ import annotations

import shlex

from ffpdata.core.config import Pipeline
from ffpdata.core.stage import of_role
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.refine import PROMOTED


def overruled(run: RunFolder, pipeline: Pipeline) -> str:
    """Return a warning where a refined run is about to make its removals by another model; else an empty text."""
    if not run.store.exists(PROMOTED):
        return ""
    from ffpdata.refine.round import ROLE
    from ffpdata.refine.rounds import promoted

    refined, given = promoted(run), list(of_role(pipeline.models, ROLE).values())
    if not refined or not given or any(spec.identity() == refined.identity() for spec in given):
        return ""
    profile = ",".join(filter(None, (pipeline.profile, run.store.url(PROMOTED))))
    labels = " and ".join(spec.label for spec in given)
    return (
        f"This run was refined, and this start makes all removals by {labels} again. To keep those of the "
        f"refinement: --profile {shlex.quote(profile)}"
    )
