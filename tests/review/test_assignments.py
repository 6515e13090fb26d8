from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from ffpdata.curate.verdicts import REVIEW, pair_key
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.review.assignments import Assignments, GivenVerdict, RefusedError
from ffpdata.review.pairs import PASSED, PairFilter
from ffpdata.review.requests import request_verdicts
from tests.fixture_run import copy_run, pipelines

Make = Callable[[int], RunFolder]
ACCEPT, REJECT = GivenVerdict("accept", (), 2.0), GivenVerdict("reject", ("flicker",), 4.0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def judge_all(desk: Assignments, reviewers: tuple[str, ...]) -> dict[str, list[str]]:
    """Let the reviewers take turns, with several pairs in hand each, until nothing is left."""
    seen: dict[str, list[str]] = {name: [] for name in reviewers}
    for turn in count():
        idle = 0
        for name in reviewers:
            taken = desk.lease(name, PairFilter(), 4)
            if not taken:
                idle += 1
                continue
            desk.submit(name, taken[0].key, ACCEPT if turn % 3 else REJECT)
            seen[name].append(taken[0].key)
        if idle == len(reviewers):
            return seen
    raise AssertionError


def test_two_reviewers_share_the_pairs_and_meet_only_in_the_overlap(make: Make) -> None:
    desk = Assignments(make(60), overlap=0.2)
    seen = judge_all(desk, ("ann", "bob", "eve"))
    judged = [key for keys in seen.values() for key in keys]
    assert set(judged) == set(desk.pairs.by_key)
    twice = {key for key in judged if judged.count(key) > 1}
    assert twice == {key for key in desk.pairs.by_key if desk.in_overlap(key)}
    assert 3 <= len(twice) <= 25
    assert all(judged.count(key) == 2 for key in twice)
    assert sum(found["pairs"] for found in desk.progress()["agreement"]) == len(twice)


def test_pairs_that_the_refinement_loop_waits_for_can_be_asked_for_alone(make: Make) -> None:
    run = make(6)
    wanted = sorted(Assignments(run).pairs.by_key)[2:4]
    request_verdicts(run.store, wanted)
    desk = Assignments(run, overlap=0)
    assert sorted(pair.key for pair in desk.lease("ann", PairFilter(compared=True), 6)) == wanted
    for key in wanted:
        desk.submit("ann", key, ACCEPT)
    assert desk.lease("ann", PairFilter(compared=True), 6) == []
    assert len(desk.lease("ann", PairFilter(), 6)) == 4


def test_a_lease_that_ran_out_goes_to_whoever_asks_and_not_before(make: Make) -> None:
    clock = Clock()
    desk = Assignments(make(3), overlap=0, lease_seconds=60, clock=clock)
    mine = desk.lease("ann", PairFilter(), 3)
    assert desk.lease("ann", PairFilter(), 3) == mine  # a page that was loaded again shows the same
    clock.now = 59
    assert desk.lease("bob", PairFilter(), 3) == []
    clock.now = 121
    assert desk.has_lease("ann", mine[0].key)  # late, but nobody else has asked
    (taken,) = desk.lease("bob", PairFilter(), 1)
    with pytest.raises(RefusedError, match="not leased to you"):
        desk.submit("ann", taken.key, ACCEPT)
    desk.submit("bob", taken.key, ACCEPT)
    desk.submit("ann", mine[1].key, ACCEPT)
    desk.release("ann", [mine[2].key])
    assert [pair.key for pair in desk.lease("bob", PairFilter(), 3)] == [mine[2].key]


def test_a_verdict_is_a_row_at_once_and_the_newest_holds(make: Make) -> None:
    run = make(4)
    desk = Assignments(run, overlap=0)
    (pair,) = desk.lease("ann", PairFilter(), 1)
    desk.submit("ann", pair.key, REJECT)
    with run.connect() as connection:
        (row,) = records(connection, "select * from review_history")
    expected = {"verdict": "reject", "verdict_reasons": ["flicker"], "reviewer": "ann", "verdict_seconds": 4.0}
    expected |= {"overlap": False, "status": "ok", "stage": REVIEW, "track": "local", "entered_id": row["item_id"]}
    assert {name: row[name] for name in expected} == expected
    assert pair.key == pair_key("local", row["item_id"], row["upstream"])
    assert desk.submit("ann", pair.key, REJECT).verdict == "reject"  # sent again: nothing new
    assert len(run.manifest.parts(REVIEW)) == 1
    desk.submit("ann", pair.key, GivenVerdict("undo"))
    assert desk.has_lease("ann", pair.key)
    assert Assignments(run).progress()["reviewers"] == {}
    desk.submit("ann", pair.key, ACCEPT)
    assert len(run.manifest.parts(REVIEW)) == 3
    again = Assignments(run).progress()
    assert (again["reviewed"], again["pairs"]) == (1, 4)
    assert again["reviewers"]["ann"] | {"per_hour": 1800.0, "accept": 1, "reject": 0} == again["reviewers"]["ann"]


def test_what_is_repeated_late_does_not_count_again(make: Make) -> None:
    """Each verdict has its number: sent twice, out of order, from two tabs, or to the server after a restart."""
    run = make(2)
    desk, undo = Assignments(run, overlap=0), GivenVerdict("undo")
    (pair,) = desk.lease("ann", PairFilter(), 1)
    assert desk.events("ann", pair.key) == 0
    with pytest.raises(RefusedError, match="number 1 of your verdicts on this pair, 0 is next: no verdict of yours"):
        desk.submit("ann", pair.key, undo, 1)  # it came before the verdict that it undoes
    desk.submit("ann", pair.key, ACCEPT, 0)
    assert desk.submit("ann", pair.key, ACCEPT, 0).verdict == "accept"  # the answer was lost
    with pytest.raises(RefusedError, match="'accept' holds"):
        desk.submit("ann", pair.key, REJECT, 0)  # another tab shows the pair, too
    desk.submit("ann", pair.key, undo, 1)
    desk.submit("ann", pair.key, undo, 1)
    for late in (desk, Assignments(run, overlap=0)):
        with pytest.raises(RefusedError, match="no verdict of yours holds"):
            late.submit("ann", pair.key, ACCEPT, 0)
        assert late.events("ann", pair.key) == 2
        assert late.progress()["reviewers"] == {}
    desk.submit("ann", pair.key, REJECT, 2)
    for late in (desk, Assignments(run, overlap=0)):
        with pytest.raises(RefusedError, match="'reject' holds"):
            late.submit("ann", pair.key, undo, 1)
    with pytest.raises(RefusedError, match="nothing to undo"):
        desk.submit("bob", pair.key, undo, 0)
    assert len(run.manifest.parts(REVIEW)) == 3


def test_without_numbers_what_was_sent_already_needs_a_new_lease(make: Make) -> None:
    run = make(1)
    desk, undo = Assignments(run, overlap=0), GivenVerdict("undo")
    (pair,) = desk.lease("ann", PairFilter(), 1)
    desk.submit("ann", pair.key, ACCEPT)
    desk.submit("ann", pair.key, undo)
    with pytest.raises(RefusedError, match="sent this already"):
        desk.submit("ann", pair.key, ACCEPT)
    desk.submit("ann", pair.key, REJECT)
    with pytest.raises(RefusedError, match="sent this already"):
        desk.submit("ann", pair.key, undo)
    assert Assignments(run).progress()["reviewers"]["ann"]["reject"] == 1
    desk.submit("ann", pair.key, undo, desk.events("ann", pair.key))
    desk.lease("ann", PairFilter(), 1)
    assert desk.submit("ann", pair.key, ACCEPT).verdict == "accept"


def test_who_skips_leaves_the_pair_to_others_and_a_flag_is_a_filter(make: Make) -> None:
    desk = Assignments(make(2), overlap=0)
    first, second = desk.lease("ann", PairFilter(), 2)
    desk.submit("ann", first.key, GivenVerdict("skip"))
    desk.submit("ann", second.key, GivenVerdict("flag"))
    assert desk.lease("ann", PairFilter(), 2) == []
    assert desk.lease("bob", PairFilter(), 2) == [first]
    assert desk.lease("bob", PairFilter(flagged=True), 2) == [second]
    desk.submit("bob", second.key, ACCEPT)
    assert desk.lease("bob", PairFilter(flagged=True), 2) == []


def test_orders(make: Make) -> None:
    run = make(30)
    desk = Assignments(run)
    threshold = next(e.settings["min_score"] for e in pipelines()[0].stages if e.name == "verify")

    def scores(**wanted: object) -> list[float]:
        return [pair.score or 0 for pair in desk.pairs.select(PairFilter(**wanted))]  # type: ignore[arg-type]

    assert scores(order="best") == sorted(scores(), reverse=True)
    assert scores(order="worst") == sorted(scores())
    uncertain = desk.pairs.select(PairFilter(order="uncertain"))
    margins = [min(abs((pair.score or 0) - threshold), 9.0 - 5.0) for pair in uncertain]
    assert margins == sorted(margins)
    assert scores(order="random", seed=1) == scores(order="random", seed=1)
    assert scores(order="random", seed=1) != scores(order="random", seed=2)


def test_filters_and_pairs_that_were_rejected(tmp_path: Path) -> None:
    desk = Assignments(copy_run(tmp_path / "run"))
    counts = desk.pairs.counts()
    assert counts["status"] == {"measure": 1, PASSED: 16}
    assert counts["task"] == {"modification": 4, "removal": 9, "stylization": 4}
    (rejected,) = desk.pairs.select(PairFilter(status="measure"))
    assert desk.pairs.row(rejected)["reason"] == "flicker_too_high"
    chosen = desk.pairs.select(PairFilter(track="local", task="removal", variant="bbox"))
    assert len(chosen) == 4
    styled = desk.pairs.select(PairFilter(track="style"))
    assert all({"reference", "source", "target"} == set(desk.pairs.files(pair)) for pair in styled)


def test_a_pair_that_was_made_anew_waits_for_a_new_verdict(make: Make) -> None:
    run = make(2)
    desk = Assignments(run)
    (pair,) = desk.lease("ann", PairFilter(), 1)
    desk.submit("ann", pair.key, REJECT)
    rows = run.manifest.read("verify").to_pylist()
    item = desk.pairs.row(pair)["item_id"]
    (row,) = [row for row in rows if row["item_id"] == item]
    run.manifest.append("verify", [row | {"key": "f" * 32}], run.manifest.read("verify").schema)
    anew = Assignments(run)
    assert pair.key not in anew.pairs.by_key
    assert anew.progress()["reviewed"] == 0
    with pytest.raises(RefusedError, match="made anew"):
        anew.submit("ann", pair.key, ACCEPT)


def test_pairs_that_come_while_a_run_goes_on_are_found(make: Make) -> None:
    clock = Clock()
    run = make(1)
    desk = Assignments(run, clock=clock)
    (pair,) = desk.lease("ann", PairFilter(), 1)
    desk.submit("ann", pair.key, ACCEPT)
    make(3)
    clock.now = 5
    assert desk.lease("ann", PairFilter(), 5) == []  # the run was read a moment ago
    clock.now = 20
    assert len(desk.lease("ann", PairFilter(), 5)) == 2
