"""The table of an evaluation, written and read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import FatalError, UsageError
from ffpdata.evaluation.entries import Entry, write_entries
from ffpdata.evaluation.results import LEARNED, RESULTS, metrics_by, read_results, table_of, write_results


def test_it_has_every_metric_once_and_reads_as_written(tmp_path: Path) -> None:
    metrics = metrics_by(load_pipeline("evaluation").build())
    assert tuple(metrics[: len(LEARNED)]) == LEARNED
    assert len(set(metrics)) == len(metrics)
    assert "change" in metrics
    assert "fps" not in metrics
    row = {"method": "m", "item": "1", "status": "ok", "change": 1.5, "width": 64, "path": "not of the table"}
    table = table_of([row], metrics)
    write_results(table, tmp_path)
    [found] = read_results(tmp_path).to_pylist()
    assert {name: value for name, value in found.items() if value is not None} == {
        name: value for name, value in row.items() if name != "path"
    }


def test_a_missing_and_a_damaged_table(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="is not there: `ffpdata evaluate` writes it at its end"):
        read_results(tmp_path)
    (tmp_path / RESULTS).write_bytes(b"PAR1")
    with pytest.raises(FatalError, match=r"cannot be read .*evaluate again"):
        read_results(tmp_path)


def test_entries_that_cannot_be_told_apart(tmp_path: Path) -> None:
    one = Entry("m", "1", tmp_path / "a.mp4")
    with pytest.raises(UsageError, match="item '1' of 'm' is there twice"):
        write_entries(tmp_path / "t.jsonl", [one, one])
    with pytest.raises(UsageError, match="nothing to evaluate"):
        write_entries(tmp_path / "t.jsonl", [])
    with pytest.raises(UsageError, match="not UTF-8"):
        write_entries(tmp_path / "t.jsonl", [Entry("m\udcff", "1", tmp_path / "a.mp4")])
