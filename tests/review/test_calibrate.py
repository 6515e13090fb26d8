"""`ffpdata calibrate`: from the verdicts of a run to settings that another run takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ffpdata.cli import app
from ffpdata.core.config import load_pipeline
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.review.assignments import Assignments, GivenVerdict
from ffpdata.review.pairs import PairFilter

CUT = 7.5
"""From this score on the pairs of the fixture are accepted."""


@pytest.fixture
def judged(make: Callable[[int], RunFolder]) -> RunFolder:
    """Eighty pairs with scores from 5 to 10; every fifth is judged by two people, and these agree."""
    run = make(80)
    desk = Assignments(run, overlap=1)
    pairs = desk.lease("ann", PairFilter(order="worst"), 80)
    for pair in pairs:
        desk.submit(
            "ann",
            pair.key,
            GivenVerdict("accept") if (pair.score or 0) >= CUT else GivenVerdict("reject", ("flicker",)),
        )
    seconds = desk.lease("bob", PairFilter(order="worst"), 80)
    for number, pair in enumerate(seconds):
        if number % 4 == 0:
            desk.submit(
                "bob",
                pair.key,
                GivenVerdict("accept") if (pair.score or 0) >= CUT else GivenVerdict("reject", ("flicker",)),
            )
    return run


@pytest.mark.slow
def test_thresholds_become_a_profile(judged: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "calibrated.yaml"
    words = ["calibrate", judged.store.root, "--precision", "0.99", "--out", str(out)]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "verify_score" in told.output
    assert "Reviewers err in 0.0% of verdicts (read from the pairs that several judged)" in told.output
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    [cut] = [cut for cut in found["cuts"] if cut["score"] == "verify_score"]
    assert (cut["reviewed"], cut["pairs"], cut["kept"]) == (80, 80, 40)
    low, high = cut["interval"]
    assert low <= CUT <= high
    assert cut["threshold"] == CUT
    settings = {entry.name: entry.settings for entry in load_pipeline("local_editing", f"cpu,{out}").stages}
    assert settings["verify"]["min_score"] == CUT
    plain = {entry.name: entry.settings for entry in load_pipeline("local_editing", "cpu").stages}
    assert plain["verify"]["min_score"] != CUT
    assert settings["measure"] == plain["measure"]


def test_too_few_verdicts(make: Callable[[int], RunFolder]) -> None:
    told = CliRunner().invoke(app, ["calibrate", make(3).store.root])
    assert told.exit_code == 0
    assert "Too few verdicts" in told.output
