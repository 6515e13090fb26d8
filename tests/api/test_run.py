"""A run from Python: what the commands do, as objects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import ffpdata
from ffpdata.core.errors import FatalError, UsageError
from ffpdata.media.codec import read_first_frame, read_masks, read_video
from tests import toys
from tests.fixture_run import copy_run

pytestmark = pytest.mark.slow


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for text in ("alpha", "reject", "raise"):
        (tmp_path / "in" / f"{text}.txt").write_text(text)
    toys.Upper.calls.clear()
    return tmp_path / "in"


def pipeline(**settings: str) -> ffpdata.Pipeline:
    return ffpdata.Pipeline.of([toys.Read, toys.Upper(**settings)], name="toys")


def test_a_run_and_the_same_call_again(source: Path, tmp_path: Path) -> None:
    run = ffpdata.run(pipeline(), source, tmp_path / "run")
    assert repr(run) == f"Run({str(tmp_path / 'run')!r})"
    upper = run.result.stages["upper"]
    assert (upper["ok"], upper["rejected"], upper["failed"]) == (1, 1, 1)
    again = ffpdata.run(pipeline(), source, tmp_path / "run")
    assert again.result.stages["upper"] | {"slowest": {}} == upper | {"slowest": {}}
    assert sorted(toys.Upper.calls) == ["alpha", "raise", "raise", "reject"]  # failed ones are tried again
    assert ffpdata.open_run(tmp_path / "run").pipelines == {"toys": pipeline()}


def test_it_says_what_it_does_only_where_it_is_asked(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ffpdata.run(pipeline(), source, tmp_path / "run")
    assert capfd.readouterr() == ("", "")
    ffpdata.run(pipeline(mark="?"), source, tmp_path / "run", quiet=False)
    assert "upper" in "".join(capfd.readouterr())


def test_limit_and_stages(source: Path, tmp_path: Path) -> None:
    result = ffpdata.run(pipeline(), source, tmp_path / "run", limit=2, stages="..read").result
    assert (result.stages["read"]["ok"], result.stages["upper"]["ok"]) == (2, 0)


def test_a_pipeline_file_with_settings_and_a_model(source: Path, tmp_path: Path) -> None:
    text = "name: toys\ntrack: t\nstages: ['tests.toys:Read', 'tests.toys:Upper': {mark: '.'}]\n"
    (tmp_path / "toys.yaml").write_text(text)
    run = ffpdata.run(tmp_path / "toys.yaml", source, tmp_path / "run", overrides={"upper": {"mark": "?"}})
    [loud] = run.sql("select loud from upper where status = 'ok'").column("loud").to_pylist()
    assert (tmp_path / "run" / loud).read_text() == "ALPHA?"
    with pytest.raises(UsageError, match="a Pipeline is complete"):
        ffpdata.run(pipeline(), source, tmp_path / "run", overrides={"upper": {"mark": "?"}})
    with pytest.raises(UsageError, match="runner 'rai': no such runner; did you mean 'ray'"):
        ffpdata.run(pipeline(), source, tmp_path / "run", runner="rai")  # type: ignore[arg-type]


def test_status_is_a_table_in_print(source: Path, tmp_path: Path) -> None:
    run = ffpdata.run(pipeline(), source, tmp_path / "run")
    lines = str(run.status()).splitlines()
    assert lines[0].split() == ["stage", "ok", "rejected", "failed", "running", "slowest", "s", "reasons"]
    assert lines[2].split()[:4] == ["upper", "1", "1", "1"]
    assert lines[2].endswith("ZeroDivisionError 1, too_bad 1")
    assert lines[-1] == "0 pairs"


def test_sql_is_arrow(source: Path, tmp_path: Path) -> None:
    run = ffpdata.run(pipeline(), source, tmp_path / "run")
    table = run.sql("select status, count(*) as n from items group by status order by status")
    assert isinstance(table, pa.Table)
    assert table.to_pydict() == {"status": ["failed", "ok", "rejected"], "n": [1, 1, 1]}
    assert run.sql("create view mine as select 1 as a").num_rows == 0  # a statement that answers nothing
    with pytest.raises(UsageError, match="SQL: Binder Error"):
        run.sql("select nothing from items")


NO_PANDAS = """
import importlib.abc, sys

class NoPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoPandas())
"""


def test_sql_is_pandas_where_that_is_installed(source: Path, tmp_path: Path) -> None:
    ffpdata.run(pipeline(), source, tmp_path / "run")
    query = "select length from upper where length is not null"
    code = f"import ffpdata\ntable = ffpdata.open_run({str(tmp_path / 'run')!r}).sql({query!r})\n"
    ask = code + "print(table.num_rows, table.to_pandas().length.sum())"
    done = subprocess.run([sys.executable, "-c", NO_PANDAS + ask], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "ModuleNotFoundError: No module named 'pandas'"
    pytest.importorskip("pandas")
    assert subprocess.check_output([sys.executable, "-c", ask], text=True).strip() == "2 11"


def test_retry(source: Path, tmp_path: Path) -> None:
    run = ffpdata.run(pipeline(), source, tmp_path / "run")
    toys.Upper.calls.clear()
    run.retry()
    assert toys.Upper.calls == ["raise"]
    toys.Upper.calls.clear()
    assert run.retry(reason="too_bad") is run.result
    assert sorted(toys.Upper.calls) == ["raise", "reject"]
    for path in (tmp_path / "run/artifacts/loud").rglob("*.txt"):
        path.unlink()
    toys.Upper.calls.clear()
    run.retry(stage="upper", lost=True)
    assert sorted(toys.Upper.calls) == ["alpha", "raise", "reject"]
    with pytest.raises(UsageError, match="the run has no such stage; did you mean 'upper'"):
        run.retry(stage="uper")


def test_damaged_files_are_listed_and_made_anew(source: Path, tmp_path: Path) -> None:
    for text in ("reject", "raise"):
        (source / f"{text}.txt").write_text(f"{text}ed")
    run = ffpdata.run(pipeline(), source, tmp_path / "run")
    assert run.verify().ok
    before = run.sql("select item_id, status, reason, loud from items order by 1").to_pylist()
    flipped, cut, gone = (tmp_path / "run" / row["loud"] for row in before)
    whole = {path: path.read_bytes() for path in (flipped, cut, gone)}
    flipped.write_bytes(bytes([whole[flipped][0] ^ 1]) + whole[flipped][1:])
    cut.write_bytes(whole[cut][:-1])
    gone.unlink()
    report = run.verify()
    assert set(report.lost) == {str(path.relative_to(run.path)) for path in whole}
    assert sorted(why.split(":")[0] for why in report.lost.values()) == ["is damaged", "is damaged", "is gone"]
    toys.Upper.calls.clear()
    run.retry()
    assert toys.Upper.calls == [], "what is finished is not read at every start"
    run.retry(lost=True)
    assert sorted(toys.Upper.calls) == ["alpha", "raiseed", "rejected"]
    assert {path: path.read_bytes() for path in whole} == whole
    assert run.verify().ok
    assert run.sql("select item_id, status, reason, loud from items order by 1").to_pylist() == before


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"is no run folder: it has no run\.yaml"):
        ffpdata.open_run(tmp_path)


def test_pairs_are_those_of_the_export(tmp_path: Path) -> None:
    run = ffpdata.Run(copy_run(tmp_path / "run"))
    dataset = run.export(tmp_path / "out", shard_size_mb=0.2)
    assert len(dataset.shards) > 1
    mine, exported = list(run.pairs()), list(ffpdata.pairs(tmp_path / "out"))
    assert len(mine) == sum(shard.pairs for shard in dataset.shards) > 3
    for one, other in zip(mine, exported, strict=True):
        assert dict(one.files) == dict(other.files)
        assert list(one) == list(other)
    local = next(pair for pair in mine if pair["track"] == "local")
    columns = "source_video, target_video, mask_video"
    [row] = run.sql(f"select {columns} from items where item_id = '{local['item_id']}'").to_pylist()
    path = {name: tmp_path / "run" / value for name, value in row.items()}
    assert np.array_equal(local["source"], read_video(path["source_video"]))
    assert np.array_equal(local["target"], read_video(path["target_video"]))
    assert np.array_equal(local["mask"], read_masks(path["mask_video"]))
    assert np.array_equal(local["edited_first_frame"], read_first_frame(path["target_video"]))
    assert "mask.mp4" in local.files
    styled = next(pair for pair in mine if pair["track"] != "local")
    assert "mask.mp4" not in styled.files
    with pytest.raises(KeyError, match="has no 'mask'"):
        styled["mask"]


def test_pairs_of_one_split(tmp_path: Path) -> None:
    run = ffpdata.Run(copy_run(tmp_path / "run"))
    run.export(tmp_path / "out")
    splits = {pair["split"] for pair in run.pairs()}
    for split in splits:
        assert [p["key"] for p in run.pairs(split)] == [p["key"] for p in ffpdata.pairs(tmp_path / "out", split)]
    with pytest.raises(FatalError, match="has no split 'tran'; did you mean 'train'"):
        next(run.pairs("tran"))


def test_pairs_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    run = ffpdata.Run(copy_run(tmp_path / "run"))
    run.export(tmp_path / "out")
    pair = next(run.pairs())
    for path in (tmp_path / "run/artifacts").rglob("*.mp4"):
        path.unlink()
    assert pair["instruction"]
    with pytest.raises(FileNotFoundError):
        pair["source"]


def test_a_run_without_pairs(source: Path, tmp_path: Path) -> None:
    run = ffpdata.run(pipeline(), source, tmp_path / "run", stages="..read")
    assert list(run.pairs()) == []
    with pytest.raises(FatalError, match="has no accepted pair to export"):
        run.export(tmp_path / "out")


def test_the_report_is_where_it_says(tmp_path: Path) -> None:
    run = ffpdata.Run(copy_run(tmp_path / "run"))
    assert run.report() == tmp_path / "run/report/index.html"
    assert (tmp_path / "run/report/index.html").stat().st_size > 10_000
