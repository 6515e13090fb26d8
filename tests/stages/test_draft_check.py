"""`draft_check`: limits of a draft, and the audit of what they reject."""

from __future__ import annotations

from typing import Any

import pytest

from ffpdata.core.stage import Reject
from ffpdata.metrics.limits import Limit
from ffpdata.stages.draft_check import DraftCheck, DraftCheckSettings, chance
from tests.stages.alone import Alone, Inverting, flat, spec, square

LIMITS = {"removal": {"change_inside": Limit(min=5), "unrevealed": Limit(max=0.2), "edit_missing": Limit(max=0.1)}}


def check(**settings: Any) -> DraftCheck:
    return DraftCheck(
        DraftCheckSettings(**{"limits": LIMITS, "audit": 0.0, **settings}), {"draft_remover": spec(Inverting)}
    )


def row(alone: Alone, level: int, **values: Any) -> dict[str, Any]:
    """A source twice as large as its draft, whose region has this level."""
    drawn = flat(40)
    drawn[square()] = level
    files = {"source_video": alone.video("source", flat(40)), "draft_video": alone.video("draft", drawn[:, ::2, ::2])}
    files |= {"condition_mask": alone.masks("region", square()), "mask_video": alone.masks("outline", square())}
    return {**files, "draft_facts": {"unrevealed": 0.1}, "task": "removal", "seed": 7, **values}


def test_a_good_draft_lets_the_edit_be_made(alone: Alone) -> None:
    found = alone.process(check(), **row(alone, 140))
    assert found["draft_audited"] is False
    assert set(found["draft_metrics"]) == {"change_inside", "unrevealed", "edit_missing"}, "what limits ask for alone"
    assert found["draft_metrics"]["change_inside"] == pytest.approx(100, abs=8)


def test_a_bad_draft_rejects_with_its_numbers(alone: Alone) -> None:
    with pytest.raises(Reject, match=r"its draft: change_inside is .* at least 5") as caught:
        alone.process(check(), **row(alone, 41))
    assert caught.value.reason == "change_inside_too_low"
    assert caught.value.facts["draft_fault"] == "change_inside_too_low"
    assert caught.value.facts["draft_metrics"]["unrevealed"] == 0.1


def test_facts_of_the_draft_are_limited_too(alone: Alone) -> None:
    with pytest.raises(Reject, match=r"unrevealed is 0\.5"):
        alone.process(check(), **row(alone, 140, draft_facts={"unrevealed": 0.5}))


def test_a_draft_that_its_model_turned_away_is_rejected_unless_that_counts_for_nothing(alone: Alone) -> None:
    refused = row(alone, 140, draft_video=None, draft_refusal="misaligned", draft_refusal_detail="9, at most 6")
    with pytest.raises(Reject, match="its draft: 9, at most 6") as caught:
        alone.process(check(), **refused)
    assert caught.value.reason == "misaligned"
    assert alone.process(check(refusals=False), **refused)["draft_audited"] is False


def test_audited_edits_go_on_and_say_so(alone: Alone) -> None:
    found = alone.process(check(audit=1.0), **row(alone, 41))
    assert found["draft_audited"] is True
    assert found["draft_fault"] == "change_inside_too_low"


def test_a_larger_share_audits_those_of_a_smaller_one_and_about_its_share() -> None:
    drawn = [chance(0, f"artifacts/source_video/{n}.mp4", "removal", n) for n in range(2000)]
    assert sum(one < 0.1 for one in drawn) == pytest.approx(200, abs=45)
    assert chance(1, "a", "removal", 1) != chance(0, "a", "removal", 1)


def test_no_model_and_no_share_of_other_stages_counts_in_its_key() -> None:
    values = {"source_video": "s", "draft_video": "d", "task": "removal", "seed": 1}
    one, other = (DraftCheck(None, {"draft_remover": spec(Inverting, strength=n)}) for n in (1, 2))
    assert one.key_of(values) == other.key_of(values)
    assert check(audit=0.1).key_of(values) != check(audit=0.2).key_of(values)


def test_without_drafts_items_pass() -> None:
    assert DraftCheck(None, {"remover": spec(Inverting)}).idle
    assert not check().applies({"task": "swap"})
    assert check().applies({"task": "removal"})
