"""What the disk changes in a run or an export, and links in an export's folder."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ffpdata.core.errors import DamagedError, FatalError
from ffpdata.curate.curation import curate
from ffpdata.export.dataset import Dataset
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


def test_a_kept_shard_is_read_and_a_damaged_one_written_anew(run: RunFolder, out: Path) -> None:
    whole = files(out)
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("shard-*")}
    flip(out / "test/shard-000000.tar", 0.97)
    export(run, out)
    assert files(out) == whole
    assert {p for p in kept if p.stat().st_mtime_ns != kept[p]} == {out / "test/shard-000000.tar"}


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
            dict(pair.files)
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
        [(path, facts)] = connection.execute(
            "select target_video, artifacts from synthesize where status = 'ok' limit 1"
        ).fetchall()
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


def test_a_run_without_a_part_of_its_manifests_is_not_exported(run: RunFolder, tmp_path: Path) -> None:
    [part] = run.manifest.parts("verify")
    rows = run.manifest.read("verify")
    run.store.remove(part)
    half = rows.num_rows // 2
    for table in (rows[:half], rows[half:]):
        run.manifest.append("verify", table.to_pylist(), table.schema)
    first, _ = run.manifest.parts("verify")
    run.store.remove(first)
    with pytest.raises(DamagedError, match="a part of the manifest of verify is gone: start the run again"):
        export(run, tmp_path / "new")
    assert [problem.split(":")[0] for problem in check_run(run).problems] == ["manifests/verify"]


@pytest.fixture
def other(out: Path, tmp_path: Path) -> Path:
    """Another dataset with another shard in it."""
    shutil.copytree(out, tmp_path / "other")
    (tmp_path / "other/train/shard-000009.tar").write_bytes(b"precious")
    return tmp_path / "other"


@pytest.mark.parametrize("link", ["train", ".tmp"])
def test_a_link_in_the_way_of_a_shard_is_refused(run: RunFolder, out: Path, other: Path, link: str) -> None:
    before = files(other)
    if (out / link).exists():
        (out / link).rename(out.parent / "aside")
    (out / link).symlink_to(other / "train")
    with pytest.raises(FatalError, match=rf"{out / link} is a link to {other}/train: nothing is written or deleted"):
        export(run, out)
    assert files(other) == before
    assert Dataset.load(Store(out)).complete, "it is found before anything is written"


def test_nothing_behind_other_links_is_touched(run: RunFolder, out: Path, other: Path) -> None:
    before, own = files(other), files(out)
    (out / "old").symlink_to(other / "train")
    (out / "older").mkdir()
    (out / "older/shard-000009.tar").symlink_to(other / "train/shard-000009.tar")
    for name in ("train/shard-000000.tar", "test/shard-000000.parquet", "dataset.json"):
        (out / name).unlink()
        (out / name).symlink_to(other / name)
    export(run, out)
    assert files(other) == before
    assert [str(p.relative_to(out)) for p in out.rglob("*") if p.is_symlink()] == ["old"]
    (out / "old").unlink()
    assert files(out) == own


def test_out_itself_may_be_a_link(out: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(out)
    store = Store(tmp_path / "link")
    store.write("train/new", b"x")
    store.remove("train/new")
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


def damage(path: Path, chance: random.Random) -> str:
    """Flip a bit of a file or cut it; says which."""
    data = path.read_bytes()
    if chance.random() < 0.3:
        path.write_bytes(data[: chance.randrange(len(data))])
        return "cut"
    place = chance.randrange(8 * len(data))
    path.write_bytes(data[: place // 8] + bytes([data[place // 8] ^ 1 << place % 8]) + data[place // 8 + 1 :])
    return f"bit {place} flipped"


def problems_of(check: Callable[[], list[str]]) -> list[str]:
    try:
        return check()
    except FatalError as err:
        return [str(err)]


def test_whatever_is_damaged_in_a_run_is_noticed(run: RunFolder) -> None:
    chance = random.Random(11)
    root = Path(run.store.root)
    sound = (root / "run.yaml").read_bytes()
    for _ in range(20):
        what = damage(root / "run.yaml", chance)
        assert RunFolder.existing(root).changed_starts(), what
        (root / "run.yaml").write_bytes(sound)
    with run.connect() as connection:
        columns = ("source_video", "mask_video", "target_video", "depth_video", "reference_image", "content_image")
        named = {p for c in columns for (p,) in connection.execute(f"select {c} from items").fetchall() if p}
    broken = set(chance.sample(sorted(named), 15))
    for path in broken:
        damage(root / path, chance)
    assert set(check_run(run).lost) == broken
    for _ in range(3):
        parts = {part: run.store.read(part) for stage in run.manifest.stages() for part in run.manifest.parts(stage)}
        for part in parts:
            damage(root / part, chance)
        problems = check_run(run).problems
        assert [p for p in parts if not any(p in problem and "is safe" in problem for problem in problems)] == []
        with pytest.raises(DamagedError, match="cannot be read: manifests/"):
            run.connect()
        for part, content in parts.items():
            run.store.write(part, content)


def test_whatever_is_damaged_in_an_export_is_noticed_and_written_anew(run: RunFolder, out: Path) -> None:
    chance = random.Random(3)
    whole = files(out)
    dataset = (out / "dataset.json").read_bytes()
    for _ in range(20):
        what = damage(out / "dataset.json", chance)
        told = problems_of(lambda: ["changed"] if Dataset.load(Store(out)).changed else [])
        assert told or json.loads((out / "dataset.json").read_bytes()) == json.loads(dataset), what
        (out / "dataset.json").write_bytes(dataset)
    for _ in range(3):
        for name in whole:
            if name != "dataset.json":
                damage(out / name, chance)
        problems = verify(out, decode=False).problems
        told = {name for name in whole if any(problem.startswith(name) for problem in problems)}
        assert told >= set(whole) - {"README.md", "dataset.json"}
        export(run, out)
        assert files(out) == whole
