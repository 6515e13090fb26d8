from typing import Any

from ffpdata.curate.select import rank, worse_variants


def pair(item_id: str, score: float | None, **more: Any) -> dict[str, Any]:
    given = {"track": "local", "parent_id": "clip", "task": "removal", "object": "dog", "item_id": item_id}
    return given | {"score": score} | more


def losers(*pairs: dict[str, Any]) -> dict[str, str]:
    found = worse_variants(pairs, rank(pairs))
    return {pairs[loser]["item_id"]: pairs[winner]["item_id"] for loser, winner in found.items()}


def test_the_best_score_wins_and_an_unknown_one_comes_last() -> None:
    assert losers(pair("a", 0.5), pair("b", 0.9), pair("c", None)) == {"a": "b", "c": "b"}


def test_ties_go_to_the_next_measure_and_then_to_the_item_id() -> None:
    assert losers(pair("a", 0.5, screen_score=6.0), pair("b", 0.5, screen_score=7.0)) == {"a": "b"}
    assert losers(pair("b", 0.5), pair("a", 0.5)) == {"b": "a"}


def test_only_variants_of_one_edit_compete() -> None:
    assert losers(pair("a", 0.9), pair("b", 0.1, task="modification")) == {}
    assert losers(pair("a", 0.9), pair("b", 0.1, parent_id="other")) == {}
    assert losers(pair("a", 0.9), pair("b", 0.1, object="ball")) == {}
    style = {"task": "stylization", "track": "style"}
    assert losers(pair("a", 0.9, style_id="1", **style), pair("b", 0.1, style_id="2", **style)) == {}
    assert losers(pair("a", 0.9, style_id="1", **style), pair("b", 0.1, style_id="1", **style)) == {"b": "a"}
