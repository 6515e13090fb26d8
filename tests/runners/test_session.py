"""Which stages a start computes, and what is counted as a pair."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ffpdata.core.config import Pipeline, load_pipeline
from ffpdata.core.errors import ConfigError, FatalError, UsageError
from ffpdata.core.pipeline import StageEntry
from ffpdata.curate.curation import curate
from ffpdata.export.shards import export
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.runners.progress import PROGRESS_FILE
from ffpdata.runners.session import StartOptions, stage_range, start, status
from ffpdata.storage.lock import run_lock
from tests.s3_server import s3_proxy

NAMES = ["source", "ingest", "segment", "verify"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", [0, 1, 2, 3]),
        ("..", [0, 1, 2, 3]),
        ("ingest..segment", [1, 2]),
        ("ingest..", [1, 2, 3]),
        ("..ingest", [0, 1]),
        ("segment", [2]),
        ("segment..segment", [2]),
    ],
)
def test_ranges(text: str, numbers: list[int]) -> None:
    assert list(stage_range(text, NAMES)) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("segmnt..verify", "no stage 'segmnt'; did you mean 'segment'"),
        ("..nothing_like_it", "no stage 'nothing_like_it'"),
        ("verify..ingest", "'ingest' comes before 'verify'. The order is source, ingest, segment, verify"),
    ],
)
def test_ranges_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        stage_range(text, NAMES)
    assert message in str(error.value)


def test_whether_a_run_goes_on_is_told_by_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not by how late the clock of its machine is."""
    with s3_proxy(monkeypatch):
        run = RunFolder("s3://bucket/run")
        pool = {"stages": ["a"], "workers": 2, "starting": 0, "busy": 0.5}
        state = {"at": time.time() - 3600, "stages": {}, "pools": [pool]}
        with run_lock(run.store):
            run.store.write(PROGRESS_FILE, json.dumps(state).encode())
            assert status(run).pools == [pool]
        run.store.write(PROGRESS_FILE, json.dumps(state | {"at": time.time()}).encode())
        assert status(run).pools == [], "what a killed run left"


def toys(folder: Path, *stages: str) -> RunFolder:
    """A finished run of three inputs through stages of `tests.toys`."""
    (folder / "in").mkdir()
    for text in ("pair one", "pair two", "other"):
        (folder / "in" / f"{text}.txt").write_text(text)
    entries = [StageEntry(name=name.lower(), use=f"tests.toys:{name}") for name in stages]
    run = RunFolder(folder / "run")
    start(run, Pipeline(name="toys", track="t", stages=entries), str(folder / "in"), StartOptions(quiet=True))
    return run


def test_what_has_no_target_is_no_pair(tmp_path: Path) -> None:
    run = toys(tmp_path, "Read", "Upper")
    found = status(run)
    assert (found.stages["upper"]["ok"], found.stages["curate"]["ok"], found.pairs) == (3, 0, 0)
    assert curate(run).pairs == 0
    with pytest.raises(FatalError, match=r"3 items are finished, and none is a pair.*no stage writes `source_video`"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_items_that_got_a_target_are_pairs(tmp_path: Path) -> None:
    run = toys(tmp_path, "Read", "Upper", "Pair")
    assert (status(run).stages["upper"]["ok"], status(run).stages["pair"]["ok"], status(run).pairs) == (3, 2, 2)
    assert curate(run).pairs == 2
    with run.reading() as connection:
        rows = connection.execute("select text, stage from items order by text").fetchall()
    assert rows == [("other", "upper"), ("pair one", "curate"), ("pair two", "curate")]


@pytest.mark.parametrize("section", ["settings", "runtime"])
def test_a_misspelt_entry_of_a_model_stops_the_start(tmp_path: Path, section: str) -> None:
    (tmp_path / "clip.mp4").touch()
    entries = {"settings": "raduis", "runtime": "devise"}
    pipeline = load_pipeline("local_editing", overrides=[f"models.swapper.{section}.{entries[section]}=1"])
    with pytest.raises(ConfigError, match=f"^{section} of .*:Recolour: no entry '{entries[section]}'"):
        start(RunFolder(tmp_path / "run"), pipeline, str(tmp_path), StartOptions(quiet=True))
    assert not (tmp_path / "run").exists()


def test_an_item_whose_key_cannot_be_told_fails_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for text in ("alpha", "beta", "no applies", "no roles"):
        (tmp_path / "in" / f"{text}.txt").write_text(text)
    entries = [StageEntry(name=name.lower(), use=f"tests.toys:{name}") for name in ("Read", "Picky", "Upper")]
    run, pipeline = RunFolder(tmp_path / "run"), Pipeline(name="toys", track="t", stages=entries)
    for attempt in (1, 2):
        found = start(run, pipeline, str(tmp_path / "in"), StartOptions(quiet=True))
        picky = found.stages["picky"]
        assert (picky["ok"], picky["failed"]) == (2, 2)
        assert picky["reasons"] == {"KeyError": 1, "ZeroDivisionError": 1}
        assert found.stages["upper"]["ok"] == 2
        with run.reading() as connection:
            rows = connection.execute("select attempt, error from picky where status = 'failed'").fetchall()
        assert [row[0] for row in rows] == [attempt, attempt]
        assert all("tests/toys.py" in row[1] for row in rows)
    start(run, pipeline, str(tmp_path / "in"), StartOptions(quiet=True, stages="..read"))
