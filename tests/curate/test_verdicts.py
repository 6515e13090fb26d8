from pathlib import Path

import pytest

from ffpdata.curate.curation import curate
from ffpdata.curate.verdicts import Verdict, decide
from ffpdata.export.pair_record import Records
from ffpdata.export.shards import export
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.review.assignments import Assignments, GivenVerdict
from tests.fixture_run import GOOD, copy_run, pipelines

BOX, MASK = f"{GOOD[0]}/00/removal/bbox", f"{GOOD[0]}/00/removal/mask"


def judge(desk: Assignments, item_id: str, **verdicts: str) -> None:
    (key,) = [key for key, pair in desk.pairs.by_key.items() if desk.pairs.row(pair)["item_id"] == item_id]
    for reviewer, verdict in verdicts.items():
        desk.import_verdict(key, GivenVerdict(verdict, ("flicker",) if verdict == "reject" else ()), reviewer)


def decided(run: RunFolder) -> dict[str, tuple[str, str, str]]:
    with run.connect() as connection:
        rows = records(connection, "select item_id, status, reason, error from items where stage = 'curate'")
    return {row["item_id"]: (row["status"], row["reason"], row["error"]) for row in rows}


def restart(run: RunFolder, verdicts: str) -> None:
    local = pipelines()[0]
    run.record_start(
        local.model_copy(update={"curate": local.curate.model_copy(update={"verdicts": verdicts})}), "x", None
    )


@pytest.mark.parametrize(
    ("given", "accepted"),
    [("aar", True), ("arr", False), ("ar", False), ("a", True), ("r", False), ("asf", True)],
)
def test_the_majority_decides_and_a_tie_does_not_accept(given: str, accepted: bool) -> None:
    names = {"a": "accept", "r": "reject", "s": "skip", "f": "flag"}
    decision = decide(Verdict(str(n), names[letter]) for n, letter in enumerate(given))
    assert decision is not None
    assert decision.accepted is accepted


def test_who_only_skips_or_flags_decides_nothing() -> None:
    assert decide([Verdict("ann", "skip"), Verdict("bob", "flag")]) is None


@pytest.mark.slow
def test_a_rejected_pair_is_kept_out_and_its_other_variant_takes_its_place(tmp_path: Path) -> None:
    run = copy_run(tmp_path / "run")
    desk, before = Assignments(run), curate(run)
    assert decided(run)[MASK][:2] == ("rejected", "not_best_variant")
    judge(desk, BOX, ann="reject")
    result = curate(run)
    assert decided(run)[BOX] == ("rejected", "rejected_by_reviewer", "1 of 1 reviewers rejected it (flicker)")
    assert decided(run)[MASK][0] == "ok"
    assert result.pairs == before.pairs
    assert result.rejected["rejected_by_reviewer"] == 1
    judge(desk, BOX, ann="accept")
    assert curate(run).rejected == before.rejected
    judge(desk, BOX, bob="reject")
    curate(run)
    assert decided(run)[BOX] == ("rejected", "rejected_by_reviewer", "1 of 2 reviewers rejected it (flicker)")


def test_verdicts_can_be_ignored_or_required(tmp_path: Path) -> None:
    run = copy_run(tmp_path / "run")
    desk = Assignments(run)
    judge(desk, BOX, ann="reject")
    judge(desk, MASK, ann="accept", bob="accept", eve="reject")
    restart(run, "ignore")
    assert "rejected_by_reviewer" not in curate(run).rejected
    restart(run, "require")
    result = curate(run)
    assert (result.pairs, result.rejected) == (1, {"not_reviewed": 14, "rejected_by_reviewer": 1})
    assert decided(run)[MASK][0] == "ok"


@pytest.mark.slow
def test_the_record_tells_the_verdicts_and_only_of_pairs_that_have_some(tmp_path: Path) -> None:
    run = copy_run(tmp_path / "run")
    desk = Assignments(run)
    curate(run)
    export(run, tmp_path / "before")
    judge(desk, BOX, ann="accept", bob="reject", eve="accept")
    curate(run)
    with run.connect() as connection:
        made = Records(run, connection)
        rows = {row["item_id"]: row for row in records(connection, "select * from items where status = 'ok'")}
        told = {item_id: made.record(row, "key")["verdicts"].get("review") for item_id, row in rows.items()}
    assert told.pop(BOX) == {"accepted": True, "accepts": 2, "rejects": 1, "reasons": ["flicker"]}
    assert set(told.values()) == {None}
    export(run, tmp_path / "after")
    judge(desk, BOX, ann="skip", bob="skip", eve="skip")
    curate(run)
    export(run, tmp_path / "withdrawn")
    tars = sorted(p.relative_to(tmp_path / "before") for p in (tmp_path / "before").rglob("*.tar"))
    same = [(tmp_path / "before" / tar).read_bytes() == (tmp_path / "withdrawn" / tar).read_bytes() for tar in tars]
    assert all(same)
    assert any((tmp_path / "before" / tar).read_bytes() != (tmp_path / "after" / tar).read_bytes() for tar in tars)
    assert '"verdicts": "use"' not in (tmp_path / "before/dataset.json").read_text()
