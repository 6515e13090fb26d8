"""Precision per task, thresholds, defects and bands of the score."""

from __future__ import annotations

import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.held import gpus_of
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.report import statistics
from ffpdata.report.trust import band, defects, over_sources, score_model, thresholds


def test_bands_have_their_upper_ends_in_the_next_one() -> None:
    assert [band(score) for score in (0.0, 0.5, 0.94, 0.95, 1.0, None)] == [
        *("0 to 0.5", "0.5 to 0.8", "0.8 to 0.95", "0.95 to 1", "0.95 to 1", ""),
    ]


def test_pairs_of_one_source_count_as_one_draw() -> None:
    alike = [{"source_id": "a", "score": 1.0}] * 50 + [{"source_id": "b", "score": 0.0}] * 50
    assert over_sources(alike, 0.0) == (0.0, 1.0), "two sources say next to nothing"
    many = [{"source_id": str(n), "score": 0.9} for n in range(50)]
    assert over_sources(many, 0.02) == pytest.approx((0.88, 0.92))


def test_thresholds_are_those_of_the_stages() -> None:
    found = thresholds({"local": load_pipeline("local_editing", "cpu")})
    assert {(one.task, one.side, one.value) for one in found["verify_score"]} == {("", "min", 7.0)}
    assert ("removal", "max", 0.15) in {(one.task, one.side, one.value) for one in found["unrevealed"]}
    assert "score" not in found, "no lowest score is set"


def test_an_item_holds_its_workers_gpus_and_its_share_of_a_server() -> None:
    pipeline = load_pipeline("local_editing", "gpu")
    gpus = {entry.name: gpus_of(pipeline, entry) for entry in pipeline.stages}
    assert (gpus["synthesize"], gpus["segment"], gpus["verify"], gpus["source"]) == (1, 0.25, 0.5, 0)
    model = score_model(pipeline)
    assert model is not None
    assert model.of("removal") is not None


def test_a_report_counts_what_it_shows(reported: RunFolder) -> None:
    with reported.reading() as connection:
        numbers = statistics.collect(reported, connection)
        found = defects(connection)
    assert sum(one.pairs for one in numbers.precisions) == numbers.accepted
    for one in numbers.precisions:
        assert one.expected is not None
        assert one.interval[0] <= one.expected <= one.interval[1]
        assert (one.judged, one.judged_interval) == (0, (0.0, 1.0))
    assert all(one.stage != "curate" and one.count for one in found)
    for track, cost in numbers.costs.items():
        assert cost.unit == "CPU"
        assert list(cost.hours) == [stage.name for stage in numbers.funnel[track][:-1]]
    assert sum(numbers.motion.values()) <= numbers.accepted
