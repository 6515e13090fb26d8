"""What pipelines add to samples: written, listed, loaded, verified, and the same bytes after every interruption."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ffpdata.core.config import Pipeline, load_pipeline
from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.sections import ExportSettings
from ffpdata.curate.curation import curate
from ffpdata.export.dataset import Dataset
from ffpdata.export.extras import Extras
from ffpdata.export.loader import Pair, pairs, webdataset_pipeline
from ffpdata.export.shards import export
from ffpdata.export.verify import verify
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.codec import read_gray
from ffpdata.runners.session import StartOptions, start
from ffpdata.stages.depth import Depth
from ffpdata.storage.store import Store
from tests.conftest import SMALL_SETTINGS
from tests.export.test_shards import files
from tests.export.test_verify import only, rewrite
from tests.fixture_run import copy_run, pipelines
from tests.fixture_run import make_run as make_fixture

LOCAL = ExportSettings(members={"region.mp4": "condition_mask"}, columns=["screen", "screen_score", "target_hash"])
STYLE = ExportSettings(
    members={"depth.mp4": "depth_video", "still.png": "content_image"}, columns=["depth_kind", "animate_facts"]
)


def with_sections(run: RunFolder) -> RunFolder:
    """Start both tracks of the fixture again, each with an `export` section of its own."""
    for pipeline, section in zip(pipelines(), (LOCAL, STYLE), strict=True):
        run.record_start(pipeline.model_copy(update={"export": section}), "clips", None)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = copy_run(tmp_path_factory.mktemp("extras") / "run")
    curate(folder)
    return with_sections(folder)


@pytest.fixture(scope="module")
def whole(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("extras") / "out"
    export(run, out)
    return out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def by_task(out: Path, task: str) -> list[Pair]:
    return [pair for pair in pairs(out) if pair["task"] == task]


def test_each_track_has_what_its_own_section_names(run: RunFolder, whole: Path) -> None:
    assert verify(whole).problems == []
    with run.connect() as connection:
        query = "select item_id, depth_video, content_image, condition_mask from items where status = 'ok'"
        made = {item: rest for item, *rest in connection.execute(query).fetchall()}
    stills = 0
    for pair in pairs(whole):
        depth, still, region = made[pair["item_id"]]
        added = {name for name in pair if "." in name}
        if pair["track"] == "local":
            assert added == {"region.mp4"}
            assert pair.files["region.mp4"] == run.store.read(region)
            assert pair["columns"].keys() == {"screen", "screen_score", "target_hash"}
        else:
            assert added == {"depth.mp4", "still.png"} - (set() if still else {"still.png"})
            assert pair.files["depth.mp4"] == run.store.read(depth)
            gray = read_gray(run.store.local_path(depth))
            assert np.array_equal(pair["depth.mp4"], np.repeat(gray[..., None], 3, axis=3))
            assert pair["columns"] == {"depth_kind": "pseudo", "animate_facts": {"zoom": 1.1} if still else None}
            stills += still is not None
    assert stills == 2
    removal, *_ = by_task(whole, "removal")
    assert removal["columns"]["screen"] == {"residue": False}
    assert len(removal["columns"]["target_hash"]) == 6
    assert by_task(whole, "modification")[0]["columns"]["screen"] is None  # the stage is for removals alone


def test_the_index_has_typed_columns_of_all_tracks(whole: Path) -> None:
    rows = []
    for tar in whole.rglob("*.tar"):
        table = pq.read_table(tar.with_suffix(".parquet"))
        assert table.schema.field("screen_score").type == pa.float64()
        assert table.schema.field("target_hash").type == pa.list_(pa.string())
        assert table.schema.field("depth_kind").type == pa.string()
        rows += table.to_pylist()
    assert table.column_names[-5:] == ["animate_facts", "depth_kind", "screen", "screen_score", "target_hash"]
    removal = next(row for row in rows if row["task"] == "removal")
    styled = next(row for row in rows if row["task"] == "stylization")
    assert (removal["screen_score"], json.loads(removal["screen"])) == (8.0, {"residue": False})
    assert (removal["depth_kind"], styled["depth_kind"], styled["screen_score"]) == (None, "pseudo", None)
    depth = next(member for member in styled["members"] if member["name"] == "depth.mp4")
    assert styled["bytes"] == sum(member["bytes"] for member in styled["members"]) > depth["bytes"] > 0


def test_card_and_dataset_list_them(whole: Path) -> None:
    about = Dataset.load(Store(whole)).about
    assert about["extras"]["members"] == [
        {"name": "region.mp4", "column": "condition_mask", "stage": "condition", "track": "local", "pairs": 6},
        {"name": "depth.mp4", "column": "depth_video", "stage": "depth", "track": "style", "pairs": 4},
        {"name": "still.png", "column": "content_image", "stage": "ingest", "track": "style", "pairs": 2},
    ]
    assert {"name": "screen", "type": "dict", "stage": "screen", "track": "local", "pairs": 3} in about["extras"][
        "columns"
    ]
    assert about["settings"]["export"]["style"]["columns"] == ["animate_facts", "depth_kind"]
    card = (whole / "README.md").read_text()
    assert "| `<key>.still.png` | `content_image` of the stage `ingest` | style | 2 |" in card
    assert "| `target_hash` under `columns` of the record, and in the Parquet file | `list[str]` of the stage" in card


def test_webdataset_keeps_them_in_their_sample(whole: Path) -> None:
    plain = {pair["key"]: pair for pair in pairs(whole)}
    piped = {sample["__key__"]: sample for sample in webdataset_pipeline(whole)}
    assert piped.keys() == plain.keys()
    for key, sample in piped.items():
        assert {name for name in sample if not name.startswith("__")} == set(plain[key])
    styled = next(sample for sample in piped.values() if "still.png" in sample)
    assert styled["depth.mp4"].shape == styled["source"].shape
    assert styled["still.png"][:4] == b"\x89PNG"


def test_without_a_section_nothing_changes_and_the_newest_start_decides(run: RunFolder, tmp_path: Path) -> None:
    plain = copy_run(tmp_path / "plain")
    curate(plain)
    export(plain, tmp_path / "a")
    again = RunFolder(shutil.copytree(run.store.root, tmp_path / "again"))
    export(again, tmp_path / "b")
    assert files(tmp_path / "b") != files(tmp_path / "a")
    for pipeline in pipelines():
        again.record_start(pipeline, "clips", None)
    export(again, tmp_path / "b")
    assert files(tmp_path / "b") == files(tmp_path / "a")
    sections = {"local": LOCAL, "style": STYLE}
    export(again, tmp_path / "b", sections=sections)
    assert verify(tmp_path / "b", decode=False).problems == []
    assert len(list((tmp_path / "b").rglob("*.tar"))) == len(list((tmp_path / "a").rglob("*.tar")))
    assert "extras" in Dataset.load(Store(tmp_path / "b")).about


def test_a_slower_machine_gives_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    other = make_fixture(tmp_path / "other", seconds=7.5)
    curate(other)
    export(with_sections(other), tmp_path / "b")
    assert files(tmp_path / "b") == files(whole)


def test_what_cannot_be_exported_leaves_nothing_behind(run: RunFolder, tmp_path: Path) -> None:
    wrong = ExportSettings(members={"depth.mp4": "dept_video"}, columns=["depth_video"])
    with pytest.raises(ConfigError, match=r"(?s)track 'style': export.members: .*did you mean 'depth_video'.*columns"):
        export(run, tmp_path / "out", sections={"style": wrong})
    with pytest.raises(FatalError, match="no track 'styl'; did you mean 'style'"):
        export(run, tmp_path / "out", sections={"styl": STYLE})
    assert not (tmp_path / "out").exists()


def test_one_name_of_two_types_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Depth, "writes", {**Depth.writes, "screen_score": str})
    both = {pipeline.track: pipeline for pipeline in pipelines()}
    with pytest.raises(FatalError, match="'screen_score' is float of the stage 'screen' and str of the stage 'depth'"):
        Extras.of(both, {"local": LOCAL})


def test_a_lost_artifact_is_named(run: RunFolder, tmp_path: Path) -> None:
    again = RunFolder(shutil.copytree(run.store.root, tmp_path / "again"))
    with again.connect() as connection:
        query = "select depth_video from items where status = 'ok' and track = 'style'"
        path = connection.execute(query).fetchall()[0][0]
    again.store.remove(path)
    with pytest.raises(FatalError, match=rf"{path} is gone.*--lost"):
        export(again, tmp_path / "out")


def first(names: dict[str, bytes], ending: str) -> str:
    return min(name for name in names if name.endswith(ending))


def record_of(names: dict[str, bytes], ending: str) -> tuple[str, dict[str, Any]]:
    name = f"{first(names, ending).partition('.')[0]}.json"
    return name, json.loads(names[name])


def tar_with(out: Path, ending: str) -> str:
    for tar in sorted(out.rglob("*.tar")):
        rows = pq.read_table(tar.with_suffix(".parquet")).to_pylist()
        if any(member["name"] == ending for row in rows for member in row["members"]):
            return str(tar.relative_to(out))
    raise AssertionError(ending)


@pytest.mark.parametrize(
    ("ending", "spoil", "told"),
    [
        (
            "depth.mp4",
            lambda names: names.update({first(names, "depth.mp4"): b"no video"}),
            "depth.mp4 cannot be read: cannot be opened as mp4",
        ),
        (
            "still.png",
            lambda names: names.update({first(names, "still.png"): b"no picture"}),
            "still.png cannot be read: not a readable image (10 bytes)",
        ),
        (
            "depth.mp4",
            lambda names: names.pop(first(names, "depth.mp4")),
            "4 pairs of the track style should have depth.mp4, 3 have it",
        ),
        (
            "depth.mp4",
            lambda names: names.update({first(names, "depth.mp4").replace("depth", "flow"): b""}),
            "holds flow.mp4, which dataset.json does not list for the track style",
        ),
    ],
)
def test_verify_notices_files(out: Path, ending: str, spoil: Callable[[dict[str, bytes]], Any], told: str) -> None:
    rewrite(out, tar_with(out, ending), spoil)
    only(verify(out).problems, told)


def test_verify_notices_columns(out: Path) -> None:
    def spoil(names: dict[str, bytes]) -> None:
        name, record = record_of(names, "depth.mp4")
        record["columns"]["depth_kind"] = "relative"
        del record["columns"]["animate_facts"]
        names[name] = json.dumps(record).encode()

    rewrite(out, tar_with(out, "depth.mp4"), spoil)
    problems = verify(out, decode=False).problems
    only(problems, "its index says depth_kind 'pseudo', its record 'relative'")
    only(problems, "its record lacks the column animate_facts, against dataset.json")


def test_verify_notices_a_list_that_differs(out: Path) -> None:
    data = json.loads((out / "dataset.json").read_text())
    gone = data["extras"]["columns"].pop()
    (out / "dataset.json").write_text(json.dumps(data))
    only(verify(out, decode=False).problems, f"has a column {gone['name']} that dataset.json does not list")
    data["extras"] = {"members": 3}
    (out / "dataset.json").write_text(json.dumps(data))
    only(verify(out, decode=False).problems, "dataset.json: lists wrongly what the pipeline adds")


# --- real stages ---


def own_pipeline(folder: Path) -> Pipeline:
    """The stylization track with a stage of a user's own behind `depth`, and what it writes in the shards."""
    text = Path("pipelines/stylization.yaml").read_text()
    text = text.replace("  - depth\n", "  - depth\n  - tests.export.own_stage:Edges\n")
    section = (
        "export:\n"
        "  members: {depth.mp4: depth_video, edges.npy: edge_map, negative.mp4: edge_video, edges.png: edge_image}\n"
        "  columns: [depth_kind, edge_mean, edge_count, edge_strong, edge_name, edge_rows, edge_words, edge_facts]\n"
    )
    (folder / "own.yaml").write_text(text + section)
    settings = [*SMALL_SETTINGS, "input.styles_per_source=1", "clip.frames=17"]
    return load_pipeline(str(folder / "own.yaml"), overrides=settings)


@pytest.fixture(scope="module")
def mixed(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A still and clips to restyle; the stage of the user's own is for stills alone."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copytree(samples / "style", folder / "style")
    (folder / "content").mkdir()
    for content in (samples / "content").iterdir():
        shutil.copy(content, folder / "content")
    shutil.copy(min(samples.rglob("*.mp4")), folder / "content" / "clip.mp4")
    return folder


def stills_in(folder: Path) -> list[Path]:
    return [path for path in (folder / "content").iterdir() if path.suffix != ".mp4"]


def test_a_stage_of_ones_own_reaches_a_trainer(mixed: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    pipeline = own_pipeline(tmp_path)
    start(run, pipeline, str(mixed), StartOptions(quiet=True))
    dataset = export(run, tmp_path / "out", shard_size_mb=0.2)
    assert len(dataset.shards) > 1
    assert verify(tmp_path / "out").problems == []
    stills = 0
    for pair in pairs(tmp_path / "out"):
        columns = pair["columns"]
        assert columns["depth_kind"] == "pseudo"
        assert pair["depth.mp4"].shape == pair["source"].shape
        if "edges.npy" not in pair:
            assert {value for name, value in columns.items() if name != "depth_kind"} == {None}
            continue
        stills += 1
        edges = np.load(io.BytesIO(pair["edges.npy"]))
        assert columns["edge_mean"] == pytest.approx(edges.mean())
        assert columns["edge_count"] == (edges > 40).sum()
        assert columns["edge_strong"] is bool(edges.max() > 200)
        assert columns["edge_rows"] == pytest.approx(edges.mean(axis=1)[:2])
        assert (columns["edge_words"], columns["edge_name"]) == (["a", "b"], "horizontal \u2194")
        assert columns["edge_facts"] == {"max": int(edges.max())}
        assert pair["negative.mp4"].shape == (5, *pair["source"].shape[1:])
        assert abs(255.0 - pair["source"][0] - pair["negative.mp4"][0]).mean() < 3
    assert stills == len(stills_in(mixed)) > 0
    index = pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / "out").rglob("*.parquet"))])
    assert index.schema.field("edge_count").type == pa.int64()
    assert index.schema.field("edge_strong").type == pa.bool_()
    assert index["edge_mean"].null_count == len(index) - stills > 0

    resumed = tmp_path / "resumed"
    shutil.copytree(tmp_path / "run", resumed)
    start(RunFolder(resumed), pipeline, str(mixed), StartOptions(quiet=True))
    export(RunFolder(resumed), tmp_path / "again", shard_size_mb=0.2)
    assert files(tmp_path / "again") == files(tmp_path / "out")

    code = (
        "import sys; from ffpdata.manifests.run_folder import RunFolder; from ffpdata.export.shards import export;"
        "export(RunFolder.existing(sys.argv[1]), sys.argv[2], shard_size_mb=0.2,"
        "       progress=lambda done, total: print(done, flush=True))"
    )
    killed = tmp_path / "killed"
    for shards in range(1, min(3, len(dataset.shards))):
        command = [sys.executable, "-c", code, str(resumed), str(killed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(shards):
                assert process.stdout.readline()
            time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
    export(RunFolder(resumed), killed, shard_size_mb=0.2)
    assert files(killed) == files(tmp_path / "out")
