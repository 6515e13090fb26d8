"""`ffpdata evaluate`: every item ends in a row, a killed evaluation goes on, pairs and tables are evaluated, too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ffpdata.api.evaluation import evaluate
from ffpdata.cli import app
from ffpdata.core.stage import Row
from ffpdata.evaluation.results import LEARNED, read_results
from ffpdata.media.codec import read_video
from ffpdata.stages.align import Align
from tests.evaluation.editverse_folder import make_benchmark, make_results


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("editverse")
    make_benchmark(folder / "data")
    make_results(folder / "results")
    return folder


@pytest.fixture(scope="module")
def done(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of all six items, from the command line."""
    out = tmp_path_factory.mktemp("evaluated") / "run"
    asked = ["evaluate", str(given / "results"), "--data", str(given / "data"), "--out", str(out), "--full", "--json"]
    told = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert told.exit_code == 0
    (out / "told.json").write_text(told.stdout)
    return out


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["item"]: row for row in read_results(folder).to_pylist()}


def test_every_item_ends_in_a_row(done: Path) -> None:
    rows = rows_of(done)
    assert {name: (row["status"], row["reason"]) for name, row in rows.items()} == {
        **dict.fromkeys(("0", "1", "2", "4"), ("ok", None)),
        "3": ("rejected", "broken_output"),
        "5": ("rejected", "missing_output"),
    }
    assert all(row["method"] == "ours" and row["instruction"] and row["target_prompt"] for row in rows.values())
    assert all(rows["0"][name] is None for name in LEARNED), "no profile, no model"
    assert rows["0"]["change"] > 1
    assert (rows["0"]["aligned_by"], rows["0"]["frames"]) == ("index", 5)
    assert (rows["1"]["width"], rows["1"]["source_width"]) == (128, 64)
    assert rows["1"]["change"] > 1, "compared at the output's size"
    assert (rows["2"]["aligned_by"], rows["2"]["source_frames"], rows["2"]["held_frames"]) == ("time", 5, 4)
    assert (rows["4"]["source_fault"], rows["4"]["source"], rows["4"]["change"]) == ("missing_source", None, None)
    assert read_video(done / rows["2"]["source"]).shape == read_video(done / rows["2"]["target"]).shape
    page = (done / "index.html").read_text()
    assert rows["1"]["target"] in page or rows["0"]["target"] in page, "clips to play"
    assert "missing output" in page
    told = json.loads((done / "told.json").read_text())
    assert (told["items"], told["of"], told["choice"]) == (6, 6, "all")
    ours = told["methods"]["ours"]
    assert (ours["items"], ours["scored"]) == (6, 4)
    assert ours["reasons"] == {"broken_output": 1, "missing_output": 1}
    assert ours["means"]["change"]["n"] == 3


def test_a_killed_evaluation_goes_on_to_the_same_table(
    given: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = Align.process, list[str]()

    def stop(self: Align, row: Row) -> Any:
        seen.append(row.item_id)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(self, row)

    asked = ([given / "results"], "editverse", tmp_path / "run")
    monkeypatch.setattr(Align, "process", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(*asked, data=given / "data", full=True)
    assert not (tmp_path / "run" / "results.parquet").exists()
    monkeypatch.setattr(Align, "process", real)
    resumed = evaluate(*asked, data=given / "data", full=True)
    assert resumed.table.equals(read_results(done))
    [aligned] = resumed.run.sql("select count(*) as n from align_history where status = 'ok'").to_pylist()
    assert aligned["n"] == 4, "nothing is made twice"


def test_only_a_changed_output_is_scored_anew(given: Path, done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "run")
    output = given / "results" / "ours" / "5" / "generate.mp4"
    output.parent.mkdir()
    try:
        shutil.copyfile(given / "results" / "ours" / "0" / "generate.mp4", output)
        more = evaluate([given / "results"], "editverse", tmp_path / "run", data=given / "data", full=True)
    finally:
        shutil.rmtree(output.parent)
    assert rows_of(more.folder)["5"]["status"] == "ok"
    assert more.run.result is not None
    assert more.run.result.computed == 3, "its hash, its clips and their metrics, and nothing of the others"
    fewer = evaluate([given / "results"], "editverse", tmp_path / "run", data=given / "data")
    assert fewer.choice.items == len(rows_of(fewer.folder)) == 5, "what is no longer asked for is no row"


def test_a_table_to_paste_and_numbers_of_another_program(given: Path, done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "run")
    change = rows_of(done)["0"]["change"]
    (tmp_path / "theirs.csv").write_text(f"id,change\n0,{change}\n1,500\n77,1\n")
    asked = [
        "evaluate",
        str(given / "results"),
        "--data",
        str(given / "data"),
        "--out",
        str(tmp_path / "run"),
        "--full",
    ]
    told = CliRunner().invoke(app, [*asked, "--markdown", "--against", str(tmp_path / "theirs.csv")])
    assert told.exit_code == 0
    head, _, ours = told.stdout.splitlines()
    assert head.startswith("| Method | n | change |")
    assert ours.startswith("| ours | 3 |")
    assert "change: 1 differ by more than 0.001; n 2" in told.stderr
    assert "(item 1)" in told.stderr
    assert "only ours: 1 item, only theirs: 1 item" in told.stderr
    both = CliRunner().invoke(app, [*asked, "--markdown", "--json"])
    assert "give one of them" in str(both.exception)


def test_a_wrong_call_is_one_line(given: Path, tmp_path: Path) -> None:
    for words in (["--benchmark", "editvers"], [], ["--data", str(tmp_path)]):
        asked = ["evaluate", str(given / "results"), "--out", str(tmp_path / "run"), *words]
        result = CliRunner().invoke(app, asked)
        assert type(result.exception).__name__ == "UsageError", words


def test_the_run_has_a_report(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "run")
    result = CliRunner().invoke(app, ["report", str(tmp_path / "run")], catch_exceptions=False)
    assert result.exit_code == 0
    assert "missing_output" in (tmp_path / "run" / "report" / "index.html").read_text()
