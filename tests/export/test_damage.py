"""What the disk changes in a run or an export, and links in an export's folder."""

import json
import shutil
from pathlib import Path

import pytest

from ffpdata.core.errors import DamagedError, FatalError
from ffpdata.curate.curation import curate
from ffpdata.export.loader import pairs
from ffpdata.export.run_pairs import run_pairs
from ffpdata.export.shards import export
from ffpdata.export.verify import verify
from ffpdata.manifests.manifest import stage_schema
from ffpdata.manifests.run_check import check_run
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.storage.digests import file_facts
from ffpdata.storage.store import Store
from tests.export.test_shards import files
from tests.fixture_run import copy_run

pytestmark = pytest.mark.slow


def flip(path: Path, place: float, bit: int = 0) -> None:
    """Flip a bit; `place` is a fraction of the file's length."""
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and its export, which tests copy."""
    folder = tmp_path_factory.mktemp("whole")
    made = copy_run(folder / "run")
    curate(made)
    export(made, folder / "out")
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(whole / "run", tmp_path / "run")
    return RunFolder.existing(tmp_path / "run")


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole / "out", tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["shard-000000.tar", "shard-000000.parquet"])
def test_a_kept_shard_is_read_and_a_damaged_one_written_anew(run: RunFolder, out: Path, name: str) -> None:
    whole = files(out)
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("shard-*")}
    damaged = next(p for p in sorted(out.rglob(name)))
    for place in (0.02, 0.97):
        flip(damaged, place)
        export(run, out)
        assert files(out) == whole
        assert verify(out, decode=False).ok
    others = [p for p in kept if p.stem != damaged.stem or p.parent != damaged.parent]
    assert {p: p.stat().st_mtime_ns for p in others} == {p: kept[p] for p in others}


def target(run: RunFolder) -> Path:
    with run.connect() as connection:
        [(path,)] = connection.execute(
            "select target_video from items where status = 'ok' order by 1 limit 1"
        ).fetchall()
    return run.store.local_path(path)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_artifact_is_not_exported(run: RunFolder, out: Path, tmp_path: Path, damage: str) -> None:
    path = target(run)
    if damage == "flip":
        flip(path, 0.99)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    before = files(out)
    with pytest.raises(DamagedError, match=rf"{path} is (damaged|gone).*`ffpdata retry {run.store.root} --lost`"):
        export(run, tmp_path / "new")
    assert not any((tmp_path / "new").rglob("shard-*.tar")) or damage == "flip"
    with pytest.raises(DamagedError, match=str(path)):
        for pair in run_pairs(run):
            dict(pair)
    report = check_run(run)
    name = str(path.relative_to(run.store.root))
    assert list(report.lost) == [name]
    assert [problem.split(": ")[0] for problem in report.problems] == [name]
    assert files(out) == before


def test_a_sound_run_has_no_problems(whole: Path) -> None:
    seen: list[tuple[int, int]] = []
    run = RunFolder.existing(whole / "run")
    report = check_run(run, lambda done, total: seen.append((done, total)))
    assert (report.ok, report.unknown) == (True, 0)
    assert report.files == seen[-1][0] == seen[-1][1] > 10
    with run.connect() as connection:
        [(path, facts)] = connection.execute("select target_video, artifacts from synthesize limit 1").fetchall()
    assert json.loads(facts)["target_video"]["bytes"] == run.store.size(path)


def test_what_was_made_anew_replaces_its_shard(run: RunFolder, out: Path) -> None:
    """A model may give other bytes of the same length."""
    with run.connect() as connection:
        [row] = connection.sql("select * from synthesize limit 1").to_arrow_table().to_pylist()
    path = run.store.local_path(row["target_video"])
    flip(path, 0.99)
    stage = next(s for s in run.pipelines()["local"].build() if s.name == "synthesize")
    row["artifacts"] = json.dumps({"target_video": file_facts(path)})
    run.manifest.append("synthesize", [row], stage_schema(stage.writes))
    export(run, out)
    assert path.read_bytes() in [pair.files["target.mp4"] for pair in pairs(out)]


@pytest.fixture
def other(out: Path, tmp_path: Path) -> Path:
    """Another dataset with another shard in it."""
    shutil.copytree(out, tmp_path / "other")
    (tmp_path / "other/train/shard-000009.tar").write_bytes(b"precious")
    return tmp_path / "other"


@pytest.mark.parametrize("link", ["old", "train", ".tmp", "train/shard-000000.tar", "old/shard-000009.tar"])
def test_nothing_behind_a_link_is_touched(run: RunFolder, out: Path, other: Path, link: str) -> None:
    (out / "old").mkdir()
    before, own = files(other), files(out)
    place = out / link
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(other / ("train" if place.suffix != ".tar" else "train/shard-000009.tar"))
    if link in ("train", ".tmp"):
        with pytest.raises(FatalError, match=rf"{place} is a link to {other}/train: nothing is written or deleted"):
            export(run, out)
    else:
        export(run, out)
        assert files(out)["train/shard-000000.tar"] == own["train/shard-000000.tar"]
        assert not (out / "train/shard-000000.tar").is_symlink()
    assert files(other) == before
    assert verify(out, decode=False).problems == []


def test_out_itself_may_be_a_link(run: RunFolder, out: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(out)
    export(run, tmp_path / "link")
    assert verify(tmp_path / "link", decode=False).ok


@pytest.mark.parametrize("folder", ["artifacts", "manifests", "report", ".tmp"])
def test_a_run_writes_and_deletes_nothing_through_a_link(tmp_path: Path, folder: str) -> None:
    store = Store(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine.txt").write_text("mine")
    (tmp_path / "run" / folder).symlink_to(tmp_path / "elsewhere")
    for act in (lambda: store.write(f"{folder}/a/b.txt", b"x"), lambda: store.remove(f"{folder}/mine.txt")):
        with pytest.raises(FatalError, match="is a link to"):
            act()
    store.clean_temp()
    assert [p.name for p in (tmp_path / "elsewhere").iterdir()] == ["mine.txt"]
    assert store.read(f"{folder}/mine.txt") == b"mine", "links may be read"
