"""What the stages that make drafts share: the size of a draft, who makes it, and what a refusal becomes."""

from __future__ import annotations

import pytest

from ffpdata.stages._drafts import DraftSize, drafted_by
from tests.stages.alone import Inverting, spec


@pytest.mark.parametrize(
    ("clip", "draft"),
    [((1280, 720), (320, 180)), ((720, 1280), (180, 320)), ((64, 48), (64, 48)), ((640, 120), (320, 120))],
)
def test_a_draft_is_turned_as_its_clip_and_never_larger(clip: tuple[int, int], draft: tuple[int, int]) -> None:
    assert DraftSize().size_for(*clip) == draft


def test_a_task_is_drafted_by_the_role_of_its_full_edit() -> None:
    specs = {"draft_remover": spec(Inverting), "draft_stylizer": spec(Inverting)}
    assert drafted_by(specs, {"task": "removal"}) == ("draft_remover",)
    assert drafted_by(specs, {"task": "stylization"}) == ("draft_stylizer",)
    assert drafted_by(specs, {"task": "modification"}) == (), "no role of the profile drafts it"
