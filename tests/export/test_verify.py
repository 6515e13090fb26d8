import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ffpdata.core.errors import FatalError
from ffpdata.curate.curation import curate
from ffpdata.export.dataset import Dataset
from ffpdata.export.reproducible_tar import Member, write_tar
from ffpdata.export.shard_index import INDEX, read_index, write_index
from ffpdata.export.shards import export
from ffpdata.export.verify import verify
from ffpdata.storage.store import Store
from tests.fixture_run import copy_run

TAR = "test/shard-000000.tar"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    run = copy_run(folder / "run")
    curate(run)
    export(run, folder / "out")
    return folder / "out"


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}


def rewrite(out: Path, tar: str, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change a shard's members and make its index and `dataset.json` agree, as somebody who means well might."""
    files = members(out / tar)
    change(files)
    samples: dict[str, list[Member]] = {}
    for name, data in sorted(files.items()):
        key, _, kind = name.partition(".")
        samples.setdefault(key, []).append(Member(kind, data))
    written = write_tar(out / tar, samples.items())
    store = Store(out)
    before, table = read_index(store, tar.replace(".tar", ".parquet"))
    placed = dict(zip(samples, written.samples, strict=True))
    rows = [row | {"members": placed[row["key"]]} for row in table.to_pylist()]
    shard = write_index(store, replace(before, bytes=written.bytes), rows, list(table.schema)[len(INDEX) :])
    dataset = Dataset.load(store)
    shards = [shard if s.path == tar else s for s in dataset.shards]
    Dataset(True, shards, dataset.about).save(store)


def only(problems: list[str], *parts: str) -> None:
    assert problems, "nothing was found"
    assert any(all(part in problem for part in parts) for problem in problems), problems


def test_a_sound_export_has_no_problems(whole: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = verify(whole, progress=lambda done, total: seen.append((done, total)))
    assert report.problems == []
    assert report.ok
    assert report.summary == "10 pairs in 2 shards read, no problems"
    assert seen[-1] == (10, 10)


@pytest.mark.parametrize("size", [100, 10_000, -1024, -512])
def test_a_truncated_tar(out: Path, size: int) -> None:
    data = (out / TAR).read_bytes()
    (out / TAR).write_bytes(data[:size])
    problems = verify(out).problems
    only(problems, TAR, "is damaged")
    only(problems, TAR, "bytes, dataset.json says")


@pytest.mark.parametrize("kind", ["json", "source.mp4", "mask.mp4", "edited_first_frame.png"])
def test_a_flipped_byte(out: Path, kind: str) -> None:
    store = Store(out)
    _, table = read_index(store, TAR.replace(".tar", ".parquet"))
    row = next(r for r in table.to_pylist() if r["task"] == "removal")
    member = next(m for m in row["members"] if m["name"] == kind)
    data = bytearray((out / TAR).read_bytes())
    data[member["offset"] + member["bytes"] // 2] ^= 1
    (out / TAR).write_bytes(data)
    only(verify(out, decode=False).problems, row["key"], f"{kind} is damaged")


@pytest.mark.parametrize("measured", [True, False])
def test_a_mask_is_asked_for_where_the_record_measures_one(out: Path, measured: bool) -> None:
    """And not by the task: an edit of a stage of one's own may have no mask."""

    def without_mask(files: dict[str, bytes]) -> None:
        name = next(n for n in files if n.endswith(".mask.mp4"))
        del files[name]
        if not measured:
            record = name.replace("mask.mp4", "json")
            files[record] = json.dumps({k: v for k, v in json.loads(files[record]).items() if k != "mask"}).encode()

    rewrite(out, TAR, without_mask)
    lacking = [problem for problem in verify(out, decode=False).problems if "lacks" in problem]
    assert len(lacking) == measured
    assert all("lacks mask.mp4" in problem for problem in lacking)


def test_a_flipped_byte_in_a_header(out: Path) -> None:
    data = bytearray((out / TAR).read_bytes())
    data[3] ^= 1
    (out / TAR).write_bytes(data)
    only(verify(out).problems, TAR, "is damaged: no file begins at byte 0")


def test_a_flipped_byte_in_an_index(out: Path) -> None:
    index = out / TAR.replace(".tar", ".parquet")
    data = bytearray(index.read_bytes())
    data[len(data) // 2] ^= 1
    index.write_bytes(data)
    only(verify(out, decode=False).problems, "test/shard-000000.parquet: ")


def test_a_missing_member(out: Path) -> None:
    files = members(out / TAR)
    gone = next(n for n in files if n.endswith("target.mp4"))
    with tarfile.open(out / TAR, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            if name != gone:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    problems = verify(out).problems
    only(problems, gone.partition(".")[0], "target.mp4 is missing from the tar")
    only(problems, "lacks target.mp4")


def test_swapped_shards_and_swapped_videos(out: Path) -> None:
    train, test = out / "train/shard-000000.tar", out / TAR
    for suffix in (".tar", ".parquet"):
        a, b = train.with_suffix(suffix), test.with_suffix(suffix)
        content = a.read_bytes()
        a.write_bytes(b.read_bytes())
        b.write_bytes(content)
    problems = verify(out).problems
    only(problems, "is not the index that dataset.json lists")
    only(problems, "belongs to the split 'train' and lies in 'test'")


def test_source_and_target_swapped_with_matching_hashes(out: Path) -> None:
    def swap(files: dict[str, bytes]) -> None:
        key = next(n for n in files if n.endswith("bbox.json")).removesuffix(".json")
        one, other = f"{key}.source.mp4", f"{key}.target.mp4"
        files[one], files[other] = files[other], files[one]

    rewrite(out, TAR, swap)
    only(verify(out).problems, "edited_first_frame.png is not the first frame of target.mp4")


def test_a_video_that_is_no_video_or_of_another_size(out: Path) -> None:
    def spoil(files: dict[str, bytes]) -> None:
        names = sorted(n for n in files if n.endswith("source.mp4"))
        files[names[0]] = b"no video"
        record = json.loads(files[names[1].replace("source.mp4", "json")])
        record["geometry"] |= {"frames": 81, "fps": 25.0}
        files[names[1].replace("source.mp4", "json")] = json.dumps(record).encode()

    rewrite(out, TAR, spoil)
    problems = verify(out).problems
    only(problems, "source.mp4 cannot be decoded")
    only(problems, "source.mp4 has (frames, height, width) (17, 96, 160), its record (81, 96, 160)")
    only(problems, "16 frames per second, its record says 25")


def test_a_record_without_its_entries(out: Path) -> None:
    def spoil(files: dict[str, bytes]) -> None:
        names = sorted(n for n in files if n.endswith(".json"))
        record = json.loads(files[names[0]])
        del record["instruction"]
        record["task"] = "magic"
        files[names[0]] = json.dumps(record).encode()
        files[names[1]] = b"{"

    rewrite(out, TAR, spoil)
    problems = verify(out).problems
    only(problems, "record lacks 'instruction'")
    only(problems, "task must be one of", "'magic'")
    only(problems, "its record is no JSON")


def test_a_leaked_source(out: Path) -> None:
    store = Store(out)
    leaked = pq.read_table(out / "train/shard-000000.parquet").to_pylist()[0]["source_id"]

    def leak(files: dict[str, bytes]) -> None:
        name = min(n for n in files if n.endswith(".json"))
        files[name] = json.dumps(json.loads(files[name]) | {"source_id": leaked}).encode()

    rewrite(out, TAR, leak)
    assert store.exists(TAR)
    only(verify(out, decode=False).problems, f"source {leaked} is in test and train")


def test_sources_that_look_alike_in_two_splits(out: Path) -> None:
    store = Store(out)
    group = pq.read_table(out / "train/shard-000000.parquet").to_pylist()[0]["source_group"]
    shard, table = read_index(store, TAR.replace(".tar", ".parquet"))
    write_index(store, shard, [row | {"source_group": group} for row in table.to_pylist()])
    only(verify(out, decode=False).problems, f"group of sources {group}", "leaks")


def test_missing_files_wrong_counts_and_strays(out: Path) -> None:
    (out / TAR).unlink()
    (out / "train/shard-000000.parquet").unlink()
    (out / "README.md").unlink()
    (out / "train/shard-000009.tar").write_bytes(b"")
    data = json.loads((out / "dataset.json").read_text())
    data["splits"]["train"]["tasks"] = {"removal": 77}
    (out / "dataset.json").write_text(json.dumps(data))
    problems = verify(out, decode=False).problems
    only(problems, f"{TAR}: is missing")
    only(problems, "train/shard-000000.parquet: is missing")
    only(problems, "README.md: is missing")
    only(problems, "train/shard-000009.tar: is not listed")
    only(problems, "dataset.json: counts", "77")


def test_no_export_at_all(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="is no ffpdata export"):
        verify(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(FatalError, match="damaged"):
        verify(tmp_path)
