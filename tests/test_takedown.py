"""Takedown of a run and of an export: what is gone, what stays byte for byte, and what later starts do."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import ffpdata
from ffpdata.core.errors import DamagedError, UsageError
from ffpdata.curate.curation import curate
from ffpdata.export.shards import export
from ffpdata.export.verify import verify
from ffpdata.manifests.run_check import check_run
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.tombstones import LOG, Tombstone, Tombstones
from ffpdata.manifests.views import records
from ffpdata.report.page import REPORT
from ffpdata.review.pairs import ReviewPairs
from ffpdata.storage.store import Store
from ffpdata.takedown import of_export, of_run
from ffpdata.takedown.request import listed, resolve
from tests.fixture_run import GOOD, MIRROR, RunMaker, copy_run, local_clip, pipelines
from tests.shared import built_once

pytestmark = pytest.mark.slow

SMALL = 0.12
"""Megabytes of a shard: a pair or two each."""


def files(folder: Path, *names: str) -> dict[str, str]:
    """Path to hash of every file, or of those in folders of these names."""
    found = {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }
    return {path: sha for path, sha in found.items() if not names or path.split("/")[0] in names}


def shards_without(folder: Path, gone: str) -> dict[str, str]:
    """Shards and indexes that hold nothing of a source."""
    clean = {}
    for index in sorted(folder.glob("*/shard-*.parquet")):
        if gone not in pq.read_table(index)["source_id"].to_pylist():
            clean |= {str(p.relative_to(folder)): p.read_bytes() for p in (index, index.with_suffix(".tar"))}
    return clean


def build_small(folder: Path) -> None:
    make = RunMaker(folder / "run")
    make.start(pipelines()[0])
    for seed, source_id in enumerate(GOOD[:2], 1):
        local_clip(make, source_id, seed)
    run = make.commit()
    curate(run)
    export(run, folder / "out", shard_size_mb=SMALL)
    run.store.write("report/previews/one.mp4", b"of somebody")


def build(folder: Path) -> None:
    run = copy_run(folder / "run")
    curate(run)
    export(run, folder / "out", shard_size_mb=SMALL)


@pytest.fixture
def both(tmp_path: Path) -> tuple[RunFolder, Path]:
    """A curated run and its export, which a test may change."""
    shutil.copytree(built_once("takedown", build), tmp_path / "both")
    return RunFolder.existing(tmp_path / "both/run"), tmp_path / "both/out"


def test_of_a_run_everything_made_of_the_source_goes_and_nothing_else(both: tuple[RunFolder, Path]) -> None:
    run, out = both
    run.store.write(REPORT, b"a page of before")
    root = Path(run.store.root)
    before, clean = files(root, "artifacts"), shards_without(out, GOOD[1])
    with run.reading() as connection:
        named = records(connection, f"select * from items where source_id = '{GOOD[1]}'")
        others = records(connection, f"select * from items where source_id <> '{GOOD[1]}' order by item_id, track")
    own = {value for row in named for value in row.values() if str(value).startswith("artifacts/")}
    done = of_run.take_down(run, [GOOD[1]], "the owner asked")
    assert (done.sources, done.pairs, len(own)) == ([GOOD[1]], 4, done.files)
    after = files(root, "artifacts")
    assert set(before) - set(after) == own
    assert all(before[path] == sha for path, sha in after.items())
    with run.reading() as connection:
        left = records(connection, f"select * from items where source_id = '{GOOD[1]}'")
        assert others == records(
            connection, f"select * from items where source_id <> '{GOOD[1]}' order by item_id, track"
        )
    assert {(row["track"], row["stage"], row["reason"]) for row in left} == {
        (track, "ingest", "taken_down") for track in ("local", "style")
    }
    assert all("the owner asked" in row["error"] for row in left)
    assert not check_run(run).problems
    assert GOOD[1] not in {ReviewPairs(run).row(pair)["source_id"] for pair in ReviewPairs(run).by_key.values()}
    page = (root / "report/index.html").read_text()
    assert f"{GOOD[1]}/00" not in page
    assert GOOD[0] in page
    whole = files(root, "artifacts", "manifests", LOG)
    again = of_run.take_down(run, [GOOD[1]])
    assert (again.sources, again.known, again.files) == ([], [GOOD[1]], 0)
    assert files(root, "artifacts", "manifests", LOG) == whole
    export(run, out, shard_size_mb=SMALL)
    assert all((out / path).read_bytes() == data for path, data in clean.items())
    assert GOOD[1] not in {pair["source_id"] for pair in ffpdata.pairs(out)}
    assert not verify(out).problems
    export(run, out.parent / "new", shard_size_mb=SMALL)
    assert files(out, "train", "test") == files(out.parent / "new", "train", "test")


def test_copies_do_not_take_its_place_and_a_style_image_is_a_source_too(both: tuple[RunFolder, Path]) -> None:
    run, out = both
    curated = "select item_id, split, source_group, status, style_id from items where stage = 'curate' order by item_id"
    styled = "select item_id, style_id, reference_image, source_video, stage, reason from items where track = 'style'"
    with run.reading() as connection:
        before, rows = records(connection, curated), records(connection, styled)
    style = rows[0]["style_id"]
    of_run.take_down(run, [GOOD[0], style])
    with run.reading() as connection:
        after, ends = records(connection, curated), records(connection, styled)
        reasons = records(connection, f"select distinct reason from items where source_id = '{MIRROR}'")
    stay = [row for row in before if not row["item_id"].startswith(GOOD[0]) and row["style_id"] != style]
    assert after == stay
    assert {row["reason"] for row in reasons} == {"like_taken_down", "not_best_variant"}
    assert [row["item_id"] for row in ends] == [row["item_id"] for row in rows]
    for row in ends:
        mine = row["style_id"] == style
        assert (row["stage"], row["reason"]) == (("style_caption", "taken_down") if mine else ("curate", None))
        assert run.store.exists(row["reference_image"]) is not mine
        assert run.store.exists(row["source_video"])
    assert not check_run(run).problems
    of_export.take_down(out, [style])
    assert style not in {(pair["json"].get("style") or {}).get("id") for pair in ffpdata.pairs(out)}
    assert not verify(out).problems


def test_of_an_export_only_its_shards_are_written(both: tuple[RunFolder, Path]) -> None:
    run, out = both
    clean, whole = shards_without(out, GOOD[1]), files(out)
    done = of_export.take_down(out, [f"{GOOD[1]}/00/removal/bbox"], "asked")
    assert done.pairs == 4
    assert all((out / path).read_bytes() == data for path, data in clean.items())
    assert set(files(out)) - {LOG} < set(whole)
    assert not verify(out).problems
    about = json.loads((out / "dataset.json").read_text())
    assert (about["pairs"], about["taken_down"]) == (6, 1)
    assert GOOD[1] not in {pair["source_id"] for pair in ffpdata.pairs(out)}
    tars = {path: sha for path, sha in files(out).items() if path.endswith(".tar")}
    export(run, out, shard_size_mb=SMALL)  # the run still has it: the export does not take it back
    assert tars == {path: sha for path, sha in files(out).items() if path.endswith(".tar")}
    assert GOOD[1] not in {pair["source_id"] for pair in ffpdata.pairs(out)}
    assert not verify(out).problems


class Killed(BaseException):
    """In the place of SIGKILL."""


@pytest.mark.parametrize(("kind", "steps"), [("run", (1, 3, 5, 9)), ("out", (1, 2, 3, 4, 5, 6, 7))])
def test_killed_anywhere_and_repeated_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, steps: tuple[int, ...]
) -> None:
    folder = built_once("takedown-small", build_small) / kind

    def take(place: Path) -> None:
        if kind == "run":
            of_run.take_down(RunFolder.existing(place), [GOOD[1]])
        else:
            of_export.take_down(place, [GOOD[1]])

    def state(place: Path) -> dict[str, str]:
        found = files(place, "artifacts", "train", "test", "README.md", "dataset.json")
        if kind == "run":
            with RunFolder.existing(place).reading() as connection:
                rows = records(connection, "select item_id, stage, status, reason, split from items order by all")
            found["rows"] = repr(rows)
            found["report"] = repr(sorted(p.name for p in (place / "report").rglob("*")))
        return found

    shutil.copytree(folder, tmp_path / "whole")
    take(tmp_path / "whole")
    plain, killed = state(tmp_path / "whole"), 0
    for step in steps:
        place = tmp_path / f"killed-{step}"
        shutil.copytree(folder, place)
        with monkeypatch.context() as patch:
            count = itertools.count(1)
            for method in ("write", "commit", "remove"):
                patch.setattr(Store, method, dies_at(step, count, getattr(Store, method)))
            try:
                take(place)
            except Killed:
                killed += 1
        take(place)
        assert state(place) == plain, step
        assert not Tombstones.load(Store(place)).pending
    assert killed >= 4


def dies_at(step: int, count: Iterator[int], original: Callable[..., Any]) -> Callable[..., Any]:
    """A method that dies in the place of what would be the call of this number."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(count) == step:
            raise Killed
        return original(*args, **kwargs)

    return call


def test_names_of_a_request(tmp_path: Path) -> None:
    known = [("3.mp4", GOOD[2]), (GOOD[2], GOOD[2]), ("2.mp4", GOOD[1])]
    (tmp_path / "same bytes.mp4").write_bytes(b"a clip")
    request = tmp_path / "request.txt"
    request.write_text(
        f"# by mail\n3.mp4\n\n{'a' * 16}\n{GOOD[2]}-abc\n{GOOD[2]}/00/removal\n{tmp_path}/same bytes.mp4\n"
    )
    with pytest.raises(UsageError, match=r"--source .*-abc.* has no such source"):
        resolve(listed(request), lambda: known, "runs/first")
    request.write_text(request.read_text().replace("-abc", ""))
    sha = hashlib.sha256(b"a clip").hexdigest()[:16]
    assert list(resolve(listed(request), lambda: known, "runs/first")) == [GOOD[2], "a" * 16, sha]
    with pytest.raises(UsageError, match=r"'22.mp4': runs/first has no such source.*did you mean '2.mp4'"):
        resolve(["22.mp4"], lambda: known, "runs/first")
    store = Store(tmp_path)
    Tombstones([Tombstone(GOOD[0], "1.mp4", "asked", "2026-01-01")]).save(store)
    assert listed(tmp_path / LOG) == [GOOD[0]]
    (tmp_path / LOG).write_text('{"source_id": ')
    with pytest.raises(DamagedError, match="put it back from a copy"):
        Tombstones.load(store)
    with pytest.raises(UsageError, match="one source id, item or path a line"):
        listed(tmp_path / LOG)
