"""Pairs of an export and of a run, evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffpdata.api.evaluation import evaluate
from ffpdata.core.errors import UsageError
from ffpdata.curate.curation import curate
from ffpdata.evaluation.pairs import read_pairs
from ffpdata.export.shards import export
from tests.fixture_run import GOOD, RunMaker, local_clip, pipelines


def test_a_run_and_its_export_are_the_same_benchmark(tmp_path: Path) -> None:
    make = RunMaker(tmp_path / "run")
    make.start(pipelines()[0])
    local_clip(make, GOOD[0], 1, score=8.0)
    run = make.commit()
    curate(run)
    export(run, tmp_path / "dataset")
    of_run = read_pairs([f"a={tmp_path}/run"], tmp_path / "from-run")
    of_export = read_pairs([f"a={tmp_path}/dataset"], tmp_path / "from-export")
    keys = [(entry.item, entry.category, entry.instruction, entry.target_prompt) for entry in of_run.entries]
    assert len(keys) > 1
    assert sorted(keys) == sorted(
        (entry.item, entry.category, entry.instruction, entry.target_prompt) for entry in of_export.entries
    )
    bytes_of = {entry.item: entry.target.read_bytes() for entry in of_export.entries}
    assert all(entry.target.read_bytes() == bytes_of[entry.item] for entry in of_run.entries)
    ids = tmp_path / "ids.txt"
    ids.write_text(f"{keys[0][0]}\n")
    done = evaluate([f"a={tmp_path}/dataset"], "pairs", tmp_path / "out", ids=ids)
    assert (done.choice.items, done.choice.of) == (1, len(keys))
    rows = done.table.to_pylist()
    assert [row["status"] for row in rows] == ["ok"]
    assert all(row["change"] > 0 and row["aligned_by"] == "index" for row in rows)
    assert (tmp_path / "out" / rows[0]["target"]).read_bytes() == bytes_of[rows[0]["item"]]


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").touch()
    with pytest.raises(UsageError, match="neither an export nor a run"):
        read_pairs([str(tmp_path / "else")], tmp_path / "out")
    with pytest.raises(UsageError, match="name the folder of an export or of a run"):
        read_pairs([], tmp_path / "out")
