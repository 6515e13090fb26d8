"""Removals that are read backwards: their records, their place, and what verify, layouts and takedown make of them."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ffpdata.api.run import open_run
from ffpdata.core.errors import UsageError
from ffpdata.curate.curation import curate
from ffpdata.export.inverse import addition_of
from ffpdata.export.loader import pairs
from ffpdata.export.reproducible_tar import Member, read_tar, write_tar
from ffpdata.export.shard_index import read_index
from ffpdata.export.verify import verify
from ffpdata.storage.store import Store
from ffpdata.takedown import of_export, of_run
from tests.fixture_run import GOOD, HOSTILE, copy_run


@pytest.mark.parametrize(
    ("removal", "thing", "addition"),
    [
        ("Remove the red ball on the left from the video.", "ball", "Add a red ball on the left to the video."),
        ("Erase the orange cat.", "cat", "Add an orange cat to the video."),
        ("Get rid of the people walking by from the scene", "people", "Add people walking by to the video."),
        ("Remove the umbrella in the clip.", "", "Add the umbrella to the video."),
        ("Take out the moving thing that crosses.", "thing", "Add a moving thing that crosses to the video."),
        ("Blur the dog.", "dog", None),
        ("", "dog", None),
    ],
)
def test_the_instruction_of_a_removal_is_turned(removal: str, thing: str, addition: str | None) -> None:
    assert addition_of(removal, thing) == addition


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_run(tmp_path_factory.mktemp("inverse") / "run")
    curate(folder)
    return Path(folder.store.root)


@pytest.fixture(scope="module")
def out(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inverse") / "out"
    open_run(run).export(folder, overrides=["export.inverse=true"])
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {p.name + p.parent.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.tar"))}


def test_an_inverse_pair_is_an_addition_of_its_own(out: Path) -> None:
    found = {pair["key"]: pair for pair in pairs(out)}
    removal, addition = (found[f"{GOOD[0]}-00-removal-bbox{end}"] for end in ("", "-inverse"))
    assert (addition["task"], addition["object"], addition["variant"]) == ("addition", "dog", "bbox")
    assert addition["instruction"] == "Add a dog to the video."
    assert addition["captions"] == {"source": "A field.", "target": HOSTILE}
    assert addition["derived_from"] == {
        "key": removal["key"],
        "item_id": removal["item_id"],
        "task": "removal",
        "relation": "reversed",
    }
    assert addition["scores"] == {"score": removal["scores"]["score"]}, "what was measured is of the removal"
    assert addition["verdicts"] == {}
    assert addition["split"] == removal["split"]
    assert addition.files["source.mp4"] == removal.files["target.mp4"]
    assert addition.files["target.mp4"] == removal.files["source.mp4"]
    assert (addition["mask"] == removal["mask"]).all()
    assert (addition["edited_first_frame"] == addition["target"][0]).all()
    assert [pair["task"] for pair in found.values()].count("addition") == 3


def test_verify_and_the_card_know_them(out: Path) -> None:
    assert verify(out).problems == []
    about = json.loads((out / "dataset.json").read_text())
    assert about["tasks"] == {"addition": 3, "modification": 3, "removal": 3, "stylization": 4}
    assert about["settings"]["export"]["local"] == {"inverse": True}
    assert "a removal read backwards" in (out / "README.md").read_text()
    rows = [row for shard in out.rglob("*.parquet") for row in pq.read_table(shard).to_pylist()]
    derived = {row["key"]: row["derived_from"] for row in rows if row["derived_from"]}
    assert derived == {f"{key}-inverse": key for key in derived.values()}
    assert len(derived) == 3


def test_they_are_off_by_default_and_nothing_else_moves(run: Path, out: Path, tmp_path: Path) -> None:
    open_run(run).export(tmp_path / "plain")
    assert "addition" not in json.loads((tmp_path / "plain/dataset.json").read_text())["tasks"]
    plain = {pair["key"]: dict(pair.files) for pair in pairs(tmp_path / "plain")}
    both = {pair["key"]: dict(pair.files) for pair in pairs(out)}
    assert {key: both[key] for key in plain} == plain
    with pytest.raises(UsageError, match="entries of `export` alone"):
        open_run(run).export(tmp_path / "no", overrides=["screen.min_score=7"])
    with pytest.raises(UsageError, match="inverce"):
        open_run(run).export(tmp_path / "no", overrides=["export.inverce=true"])


def test_verify_notices_clips_that_are_not_turned(out: Path, tmp_path: Path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    tars = {path: tarfile.TarFile(path).getnames() for path in copy.rglob("*.tar")}
    tar = next(path for path, names in tars.items() if any("-inverse." in name for name in names))
    samples: dict[str, list[Member]] = {}
    with tar.open("rb") as stream:
        for name, _, data in read_tar(stream):
            key, _, kind = name.partition(".")
            samples.setdefault(key, []).append(Member(kind, data))
    for key, members in samples.items():
        if key.endswith("-inverse"):
            by_name = {member.name: member.content for member in members}
            samples[key] = [Member(m.name, by_name["source.mp4"]) if m.name == "target.mp4" else m for m in members]
    write_tar(tar, samples.items())
    found = [text for text in verify(copy, decode=False).problems if "other way round" in text]
    assert found
    assert all("-inverse" in text for text in found)


def test_layouts_list_them(run: Path, tmp_path: Path) -> None:
    open_run(run).export_files(tmp_path / "files", ["kiwi"], overrides=["export.inverse=true"])
    rows = [row for path in (tmp_path / "files").glob("kiwi-*.csv") for row in csv.DictReader(path.open())]
    added = [row for row in rows if row["prompt"].startswith("Add ")]
    assert len(added) == 3
    for row in added:
        removal = next(r for r in rows if r["src_video"] == row["src_video"].replace("-inverse", ""))
        clips = [(tmp_path / "files" / path).read_bytes() for path in (row["tgt_video"], removal["src_video"])]
        assert clips[0] == clips[1]


def test_a_takedown_takes_both_and_leaves_other_shards(tmp_path: Path) -> None:
    folder = copy_run(tmp_path / "run")
    curate(folder)
    found = open_run(folder.store.root)
    asked = ["export.inverse=true"]
    found.export(tmp_path / "out", overrides=asked, shard_size_mb=0.15)
    before = hashes(tmp_path / "out")
    of_export.take_down(tmp_path / "out", [GOOD[2]])
    assert verify(tmp_path / "out").problems == []
    assert not [pair["key"] for pair in pairs(tmp_path / "out") if GOOD[2] in pair["source_id"]]
    after = hashes(tmp_path / "out")
    of_run.take_down(folder, [GOOD[2]])
    found.export(tmp_path / "again", overrides=asked, shard_size_mb=0.15)
    again = hashes(tmp_path / "again")
    untouched = {name for name in before if after.get(name) == before[name]}
    assert untouched
    assert {name: again[name] for name in untouched} == {name: before[name] for name in untouched}
    assert {pair["key"] for pair in pairs(tmp_path / "again")} == {pair["key"] for pair in pairs(tmp_path / "out")}


def test_an_index_of_an_earlier_release_is_read(out: Path, tmp_path: Path) -> None:
    from ffpdata.export.shard_index import ADDED, INDEX

    path = next(out.rglob("*.parquet"))
    old = pq.read_table(path).drop_columns(list(ADDED))
    (tmp_path / path.parent.name).mkdir()
    pq.write_table(old, tmp_path / path.parent.name / path.name)
    _, table = read_index(Store(tmp_path), f"{path.parent.name}/{path.name}")
    assert table.column_names == INDEX.names
    assert table["variant"].null_count == len(table)
