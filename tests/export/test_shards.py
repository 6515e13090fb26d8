import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from ffpdata.core.errors import FatalError
from ffpdata.curate.curation import curate
from ffpdata.export.dataset import Dataset
from ffpdata.export.pair_record import Records
from ffpdata.export.reproducible_tar import DamagedTarError, Member, read_tar, write_tar
from ffpdata.export.shard_plan import choose, sample_key
from ffpdata.export.shards import export
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.stages.measure import Measure
from ffpdata.storage.store import Store
from tests.fixture_run import GOOD, HOSTILE, RunMaker, copy_run, make_run, pipelines

pytestmark = pytest.mark.slow


def files(folder: Path) -> dict[str, str]:
    """Path to hash of every file."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = copy_run(tmp_path / "run")
    curate(folder)
    return folder


def test_what_an_export_holds(run: RunFolder, tmp_path: Path) -> None:
    dataset = export(run, tmp_path / "out", shard_size_mb=1)
    assert dataset == Dataset.load(Store(tmp_path / "out"))
    assert dataset.about["tasks"] == {"modification": 3, "removal": 3, "stylization": 4}
    assert dataset.about["licences"] == {"CC-BY-4.0": 6, "CC0-1.0": 4}
    assert set(files(tmp_path / "out")) == {"README.md", "dataset.json"} | {
        f"{split}/shard-000000.{ext}" for split in ("train", "test") for ext in ("tar", "parquet")
    }
    members: dict[str, tarfile.TarInfo] = {}
    for shard in dataset.shards:
        path = tmp_path / "out" / shard.path
        assert path.stat().st_size == shard.bytes
        index = path.with_suffix(".parquet").read_bytes()
        assert hashlib.sha256(index).hexdigest() == shard.index_sha256
        with tarfile.open(path) as tar:
            names = tar.getnames()
            assert [n.partition(".")[0] for n in names] == [
                n for n in dict.fromkeys(n.partition(".")[0] for n in names) for m in names if m.startswith(f"{n}.")
            ]
            members |= {m.name: m for m in tar}
    key = f"{GOOD[0]}-00-removal-bbox"
    kinds = ["edited_first_frame.png", "json", "mask.mp4", "source.mp4", "target.mp4"]
    assert sorted(n for n in members if n.startswith(key)) == [f"{key}.{kind}" for kind in kinds]
    assert not any(n.startswith(f"{GOOD[0]}-00-removal-mask") for n in members)
    assert all((m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) == (0, 0, 0, "", "", 0o644) for m in members.values())
    styled = [n for n in members if "-style-" in n and n.endswith("mask.mp4")]
    assert not styled


def test_the_index_finds_every_member(run: RunFolder, tmp_path: Path) -> None:
    for shard in export(run, tmp_path / "out").shards:
        data = (tmp_path / "out" / shard.path).read_bytes()
        for row in pq.read_table(tmp_path / "out" / shard.twin).to_pylist():
            assert row["bytes"] == sum(m["bytes"] for m in row["members"])
            for member in row["members"]:
                content = data[member["offset"] : member["offset"] + member["bytes"]]
                assert hashlib.sha256(content).hexdigest() == member["sha256"]
                if member["name"] == "json":
                    assert json.loads(content)["instruction"] == row["instruction"]


def test_a_record_tells_what_a_trainer_needs_and_nothing_of_the_machine(run: RunFolder, tmp_path: Path) -> None:
    dataset = export(run, tmp_path / "out")
    texts = {}
    for shard in dataset.shards:
        with tarfile.open(tmp_path / "out" / shard.path) as tar:
            texts |= {m.name: tar.extractfile(m).read() for m in tar if m.name.endswith(".json")}
    record = json.loads(texts[f"{GOOD[0]}-00-removal-bbox.json"])
    assert record["captions"] == {"source": HOSTILE, "source_by": "template", "target": "A field."}
    assert (record["task"], record["object"], record["track"]) == ("removal", "dog", "local")
    assert record["scores"]["psnr_outside"] == 41.0
    assert record["verdicts"]["screen"]["screen"] == {"residue": False}
    assert record["geometry"] == {"width": 160, "height": 96, "fps": 16.0, "frames": 17}
    assert record["origin"]["licence"] == "CC-BY-4.0"
    assert record["origin"]["meta"]["camera"] == "hand"
    assert record["lineage"]["verify"]["model"] == "template_vision@1"
    assert record["lineage"]["verify"]["prompts"] == ["verify"]
    assert record["prompts"]["verify"]["text"].startswith("The second video")
    styled = json.loads(texts[f"{'5' * 16}-00-style-12d61c58.json"])
    assert (styled["depth"], styled["style"]["name"], styled["captions"]["cinematic"]) == (
        "pseudo",
        "poster",
        "A slow dolly in.",
    )
    for text in texts.values():
        assert b"host-" not in text
        assert str(tmp_path).encode() not in text
        assert not {"started_at", "attempt", "seconds", "worker"} & set(json.loads(text))


@pytest.mark.slow
def test_the_same_work_on_a_slower_machine_with_interruptions_gives_the_same_bytes(tmp_path: Path) -> None:
    plain = copy_run(tmp_path / "plain")
    curate(plain)
    export(plain, tmp_path / "a", shard_size_mb=1)
    other = make_run(tmp_path / "other", seconds=7.5)
    other.record_start(pipelines()[0], "elsewhere", 3)
    other.record_start(pipelines()[1], "elsewhere", None)
    curate(other)
    export(other, tmp_path / "b", shard_size_mb=1)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_exporting_again_rewrites_nothing(run: RunFolder, tmp_path: Path) -> None:
    export(run, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("shard-*")}
    export(run, tmp_path / "out")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("shard-*")} == before


@pytest.mark.parametrize("lost", ["test/shard-000000.tar", "train/shard-000000.parquet", "dataset.json", "cut"])
def test_what_was_lost_is_made_again(run: RunFolder, tmp_path: Path, lost: str) -> None:
    out = tmp_path / "out"
    export(run, out)
    whole = files(out)
    if lost == "cut":
        with (out / "test/shard-000000.tar").open("r+b") as stream:
            stream.truncate(20_000)
    elif lost == "dataset.json":
        (out / lost).write_text(json.dumps({"format": "ffpdata-export-1", "complete": False, "shards": []}))
    else:
        (out / lost).unlink()
    export(run, out)
    assert files(out) == whole


@pytest.mark.slow
def test_killed_anywhere_it_ends_as_if_nothing_had_happened(run: RunFolder, tmp_path: Path) -> None:
    export(run, tmp_path / "whole", shard_size_mb=1)
    code = (
        "import sys; from ffpdata.manifests.run_folder import RunFolder; from ffpdata.export.shards import export;"
        "export(RunFolder.existing(sys.argv[1]), sys.argv[2], shard_size_mb=1)"
    )
    out = tmp_path / "out"
    for wait in (0.9, 1.2, 1.5):
        process = subprocess.Popen([sys.executable, "-c", code, run.store.root, str(out)])
        time.sleep(wait)
        process.kill()
        process.wait()
        for tar in out.rglob("shard-*.tar"):  # what has its final name is whole
            with tarfile.open(tar) as opened:
                assert len(opened.getnames()) > 0
    export(run, out, shard_size_mb=1)
    assert files(out) == files(tmp_path / "whole")


def test_smaller_shards_replace_the_larger_ones_and_leave_nothing_behind(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    one = export(run, out)
    many = export(run, out, shard_size_mb=0.12)
    assert len(one.shards) == 2
    assert len(many.shards) > 4
    assert all(shard.bytes < 120_000 for shard in many.shards)
    keys = [row["key"] for shard in many.shards for row in pq.read_table(out / shard.twin).to_pylist()]
    assert len(set(keys)) == len(keys) == 10
    (out / "old").mkdir()
    (out / "old" / "shard-000000.parquet").write_bytes(b"left over")
    (out / "notes.txt").write_text("mine")
    export(run, out)
    assert set(files(out)) == {"README.md", "dataset.json", "notes.txt"} | {
        f"{split}/shard-000000.{ext}" for split in ("train", "test") for ext in ("tar", "parquet")
    }


def test_a_folder_that_holds_something_else_is_refused(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(FatalError, match="not empty and no export"):
        export(run, tmp_path / "mine")
    with pytest.raises(FatalError, match="is a file"):
        export(run, tmp_path / "mine" / "thesis.txt")
    (tmp_path / "mine" / "dataset.json").write_text('{"name": "other"}')
    with pytest.raises(FatalError, match="damaged"):
        export(run, tmp_path / "mine")
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == ["dataset.json", "thesis.txt"]


def test_nothing_to_export_says_why(tmp_path: Path) -> None:
    make = RunMaker(tmp_path / "run")
    with pytest.raises(FatalError, match="no pipeline was started"):
        export(make.run, tmp_path / "out")
    make.start(*pipelines())
    with pytest.raises(FatalError, match=r"no accepted pair to export \(nothing was put in\)"):
        export(make.commit(), tmp_path / "out")
    with pytest.raises(FatalError, match="16 pairs are finished but not curated"):
        export(copy_run(tmp_path / "other"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_lost_or_damaged_artifact_is_named(run: RunFolder, tmp_path: Path) -> None:
    with run.connect() as connection:
        path = connection.execute("select target_video from items where status = 'ok' limit 1").fetchall()[0][0]
    whole = run.store.read(path)
    run.store.remove(path)
    with pytest.raises(FatalError, match=rf"{path} is gone.*`ffpdata retry {run.store.root} --lost`"):
        export(run, tmp_path / "out")
    run.store.write(path, b"damaged")
    with pytest.raises(FatalError, match=rf"{path} is damaged.*`ffpdata retry {run.store.root} --lost`"):
        export(run, tmp_path / "out")
    assert not Dataset.load(Store(tmp_path / "out")).complete
    run.store.write(path, whole)
    assert export(run, tmp_path / "out").complete


def test_what_no_record_tells_is_left_out_by_name() -> None:
    """A stage of the user's own may call its columns what it likes."""
    told = {"item_id": "'a'", "track": "'t'", "split": "'train'", "scene_hash": "'x'", "shown_seconds": "2.5"}
    told |= {"source_video": "'s'", "target_video": "'t'"}
    untold = {"target_hash": "['y']", "cut_seconds": "1.0", "cut_cpu_seconds": "1.0", "curate_attempt": "1"}
    columns = {"status": "'ok'", "stage": "'curate'", **told, **untold}
    with duckdb.connect() as connection:
        values = ", ".join(f"{value} as {name}" for name, value in columns.items())
        connection.execute(f"create view items as select {values}")
        assert choose(connection, {"t": ["cut"]}) == 1
        assert set(connection.table("chosen").columns) == {"status", "stage", "place", *told}


def test_the_prompt_is_the_one_that_was_asked(run: RunFolder, tmp_path: Path) -> None:
    local, _ = pipelines()
    time.sleep(1.1)  # a start is recorded to the second
    asked = {**local.prompts, "verify": {**local.prompts["verify"], "text": "Another question?"}}
    run.record_start(local.model_copy(update={"prompts": asked}), "clips", None)
    dataset = export(run, tmp_path / "out")
    with tarfile.open(tmp_path / "out" / dataset.shards[-1].path) as tar:
        record = json.loads(next(tar.extractfile(m).read() for m in tar if m.name.endswith("bbox.json")))
    assert record["prompts"]["verify"]["text"].startswith("The second video")


def test_keys_are_unique_short_and_without_dots() -> None:
    from ffpdata.export.shard_plan import _keys

    assert sample_key("ab/00/style/van.gogh é") == "ab-00-style-van_gogh__"
    items = [{"track": "t", "item_id": i} for i in ("a/b", "a-b", "c/d", "x" * 200)]
    keys = list(_keys(items, ()))
    assert keys[2] == "c-d"
    assert len(set(keys)) == 4
    assert max(map(len, keys)) <= 64


def test_a_tar_is_as_the_standard_library_reads_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    contents = {f"m{i}.bin": rng.bytes(n) for i, n in enumerate((0, 1, 512, 513, 3_000_000))}
    (tmp_path / "m4").write_bytes(contents["m4.bin"])
    members = [Member(n, tmp_path / "m4" if n == "m4.bin" else d) for n, d in contents.items()]
    written = write_tar(tmp_path / "a.tar", [("key", members)])
    data = (tmp_path / "a.tar").read_bytes()
    assert written.bytes == len(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar} == {f"key.{n}": d for n, d in contents.items()}
    with io.BytesIO() as plain:
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in contents.items():
                info = tarfile.TarInfo(f"key.{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        assert plain.getvalue() == data
    found = {name: (offset, content) for name, offset, content in read_tar(io.BytesIO(data))}
    for member in written.samples[0]:
        offset, content = found[f"key.{member['name']}"]
        assert (offset, len(content)) == (member["offset"], member["bytes"])
        assert content == contents[member["name"]]
        assert hashlib.sha256(content).hexdigest() == member["sha256"]


@pytest.mark.parametrize("change", [b"", b"longer than before"])
def test_a_file_that_changes_while_it_is_copied_is_an_error(tmp_path: Path, change: bytes) -> None:
    (tmp_path / "m").write_bytes(b"0123456789")
    seen: list[os.stat_result] = []

    def fstat(handle: int) -> os.stat_result:
        seen.append(os_fstat(handle))
        (tmp_path / "m").write_bytes(change)
        return seen[-1]

    os_fstat = os.fstat
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ffpdata.export.reproducible_tar.os.fstat", fstat)
        with pytest.raises(OSError, match=r"unexpected end of data|m\.bin of key grew while it was read"):
            write_tar(tmp_path / "a.tar", [("key", [Member("m.bin", tmp_path / "m")])])
    assert seen


def test_every_flipped_byte_of_a_tar_is_noticed(tmp_path: Path) -> None:
    written = write_tar(tmp_path / "a.tar", [("k", [Member("json", b"{}"), Member("png", b"x" * 700)])])
    data = (tmp_path / "a.tar").read_bytes()
    hashes = {f"k.{m['name']}": (m["offset"], m["sha256"]) for m in written.samples[0]}

    def sound(content: bytes) -> bool:
        try:
            found = {n: (o, hashlib.sha256(d).hexdigest()) for n, o, d in read_tar(io.BytesIO(content))}
        except DamagedTarError:
            return False
        return found == hashes

    assert sound(data)
    for place in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[place] ^= 0x10
        assert not sound(bytes(flipped)), place
    for cut in (1, 511, 512, 1024, 5000, len(data) - 10):
        assert not sound(data[:-cut]), cut


def test_a_record_tells_the_stages_own_number(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where `items` has another stage's time under the name of the column."""
    monkeypatch.setattr(Measure, "writes", {**Measure.writes, "verify_seconds": float})
    with run.connect() as connection:
        row = records(connection, "select * from items where status = 'ok' order by item_id")[0]
        made = Records(run, connection)
    assert row["verify_seconds"] is not None
    assert made.record(row | {"measure_verify_seconds": 3.5}, "key")["scores"]["verify_seconds"] == 3.5
    assert "verify_seconds" not in made.record(row, "key")["scores"]
