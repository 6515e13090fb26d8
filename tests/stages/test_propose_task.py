"""`propose_task`: a pipeline's own edits, which a profile's `propose.edits` do not replace."""

from __future__ import annotations

from ffpdata.core.config import load_pipeline
from ffpdata.stages.propose import EditPlan, Propose, ProposeSettings
from ffpdata.stages.propose_task import ProposeTask
from tests.stages.alone import Alone


def test_its_items_are_those_of_propose(alone: Alone) -> None:
    settings = ProposeSettings(edits=[EditPlan(task="background", variant="mask")])
    [child] = alone.expand(ProposeTask(settings), source_video="a.mp4")
    assert child == alone.expand(Propose(settings), source_video="a.mp4")[0]
    assert (child.suffix, child.columns["task"]) == ("background/mask", "background")


def test_profiles_do_not_reach_it() -> None:
    for name in ("background", "text_removal"):
        for profile in ("cpu", "gpu"):
            [stage] = [s for s in load_pipeline(name, profile).build() if isinstance(s, Propose)]
            assert stage.name == "propose_task"
            assert {edit.task for edit in stage.settings.edits} == {name}
