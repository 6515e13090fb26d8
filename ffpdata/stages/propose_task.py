"""Fan a clip out into the edits of a pipeline for one task."""

from __future__ import annotations

from ffpdata.stages.propose import Propose


class ProposeTask(Propose):
    """`propose` under a name of its own, which a profile's `propose.edits` for local editing do not replace."""

    name, version = "propose_task", 1
