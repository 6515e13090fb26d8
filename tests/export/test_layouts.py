"""Exports as plain files, each layout read as the trainer's own loader reads it."""

from __future__ import annotations

import csv
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffpdata.core.errors import FatalError, UsageError
from ffpdata.core.sections import ExportSettings
from ffpdata.curate.curation import curate
from ffpdata.export.layouts.folder import CONTENTS, export_files
from ffpdata.export.layouts.layout import LayoutPair, load_layouts
from ffpdata.media.codec import read_image, read_masks, read_video
from ffpdata.storage.store import Store
from ffpdata.takedown import of_run
from tests.fixture_run import FPS, FRAMES, GOOD, HEIGHT, WIDTH, copy_run
from tests.shared import built_once

pytestmark = pytest.mark.slow

NAMES = ("diffsynth", "kiwi", "musubi", "videox-fun")
STYLE = {"style": ExportSettings(members={"reference.png": "reference_image"})}


def files(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def build(folder: Path) -> None:
    run = copy_run(folder / "run")
    curate(run)
    export_files(run, folder / "out", load_layouts(NAMES), sections=STYLE)


@pytest.fixture(scope="module")
def out() -> Path:
    """An export in all layouts. Tests must not change it."""
    return built_once("layouts", build) / "out"


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("*/record/*.json"))]


def test_the_files_are_those_of_the_run(out: Path) -> None:
    made = records(out)
    assert len(made) == 10
    assert json.loads((out / CONTENTS).read_text())["complete"] is True
    for record in made:
        key, split = record["key"], record["split"]
        source, target = (read_video(out / split / kind / f"{key}.mp4") for kind in ("source", "target"))
        assert source.shape == target.shape == (FRAMES, HEIGHT, WIDTH, 3)
        first = read_image(out / split / "edited_first_frame" / f"{key}.png")
        assert np.array_equal(first, target[0])
        local = record["task"] != "stylization"
        assert (out / split / "mask" / f"{key}.mp4").exists() is local
        assert (out / split / "reference" / f"{key}.png").exists() is not local
    assert {path.split("/")[0] for path in files(out) if "/" in path} == {"train", "test"}


def test_diffsynth_reads_it_with_its_own_loader(out: Path) -> None:
    from diffsynth.core import UnifiedDataset

    keys = ("video", "vace_video", "vace_video_mask", "vace_reference_image")
    operator = UnifiedDataset.default_video_operator(
        base_path=str(out), height=HEIGHT, width=WIDTH, num_frames=FRAMES, max_pixels=None
    )
    by_text = {(record["split"], record["key"]): record for record in records(out)}
    seen = 0
    for split in ("train", "test"):
        path = out / f"diffsynth-{split}.jsonl"
        dataset = UnifiedDataset(str(out), str(path), data_file_keys=keys, main_data_operator=operator)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for number in range(len(dataset)):
            sample, key = dataset[number], Path(lines[number]["video"]).stem
            record = by_text[split, key]
            assert sample["prompt"] == record["instruction"]
            assert [len(sample[name]) for name in keys[:2]] == [FRAMES, FRAMES]
            assert sample["video"][0].size == (WIDTH, HEIGHT)
            ours = read_video(out / split / "target" / f"{key}.mp4")[0].astype(int)
            assert np.abs(np.asarray(sample["video"][0]) - ours).mean() < 4  # its reader takes another colour matrix
            assert np.asarray(sample["vace_reference_image"][0]).shape == (HEIGHT, WIDTH, 3)
            assert ("vace_video_mask" in sample) is (record["task"] != "stylization")
            if "vace_video_mask" in sample:
                masks = read_masks(out / split / "mask" / f"{key}.mp4")
                theirs = np.stack([np.asarray(frame.convert("L")) > 127 for frame in sample["vace_video_mask"]])
                assert np.array_equal(theirs, masks)
            seen += 1
        masked = (out / f"diffsynth-{split}-masked.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in masked] == [line for line in lines if "vace_video_mask" in line]
    assert seen == 10


def test_kiwi(out: Path) -> None:
    """diffsynth/trainers/unified_dataset.py of showlab/Kiwi-Edit at 223572d: pandas reads the table, each cell of
    `src_video`, `tgt_video`, `ref_image` is joined to the base path and opened by its ending, and both clips must agree
    in size and length; train.py asks for `prompt`."""
    import pandas as pd

    for split in ("train", "test"):
        plain, styled = pd.read_csv(out / f"kiwi-{split}.csv"), out / f"kiwi-{split}-reference.csv"
        mine = [record for record in records(out) if record["split"] == split]
        assert list(plain.columns) == ["prompt", "src_video", "tgt_video"]
        assert sorted(plain["prompt"]) == sorted(record["instruction"] for record in mine)
        for row in plain.to_dict("records"):
            source, target = (read_video(out / row[name]) for name in ("src_video", "tgt_video"))
            assert source.shape == target.shape
        references = pd.read_csv(styled).to_dict("records") if styled.exists() else []
        assert len(references) == sum(record["task"] == "stylization" for record in mine)
        for row in references:
            assert row["ref_image"].endswith(".png")
            assert read_image(out / row["ref_image"]).ndim == 3


def test_videox_fun(out: Path) -> None:
    """videox_fun/data/dataset_image_video.py of aigc-apps/VideoX-Fun at 804a425, `ImageVideoControlDataset`: a JSON
    list whose `type` is `video`; `file_path` and `control_file_path` are joined to the data folder, `text` is the
    prompt, and frames of both are taken at the same places. Its aspect buckets read `width` and `height`."""
    entries = [e for s in ("train", "test") for e in json.loads((out / f"videox-fun-{s}.json").read_text())]
    assert len(entries) == 10
    for entry in entries:
        assert (entry["type"], entry["width"], entry["height"]) == ("video", WIDTH, HEIGHT)
        target, control = (read_video(out / entry[name]) for name in ("file_path", "control_file_path"))
        assert len(target) == len(control)
        record = json.loads((out / entry["file_path"].replace("/target/", "/record/")).with_suffix(".json").read_text())
        assert entry["text"] == record["instruction"]


def test_musubi(out: Path) -> None:
    """src/musubi_tuner/dataset of kohya-ss/musubi-tuner at 30c658c: config_utils.py allows these keys and no other;
    datasources.py, `VideoJsonlDatasource`, wants a `control_path` on every line or on none. Each cache is its own."""
    general = {"resolution", "enable_bucket", "batch_size", "caption_extension", "num_repeats", "bucket_no_upscale"}
    video = {"video_jsonl_file", "cache_directory", "target_frames", "frame_extraction", "source_fps", "max_frames"}
    count = 0
    for split in ("train", "test"):
        config = tomllib.loads((out / f"musubi-{split}.toml").read_text())
        assert set(config) == {"general", "datasets"}
        assert set(config["general"]) <= general
        assert config["general"]["resolution"] == [WIDTH, HEIGHT]
        for dataset in config["datasets"]:
            assert set(dataset) <= video
            assert (dataset["target_frames"], dataset["source_fps"]) == ([FRAMES], FPS)
            for line in (out / dataset["video_jsonl_file"]).read_text().splitlines():
                entry = json.loads(line)
                assert set(entry) == {"video_path", "caption", "control_path"}
                assert (out / entry["video_path"]).exists()
                assert (out / entry["control_path"]).exists()
                count += 1
        caches = [dataset["cache_directory"] for dataset in config["datasets"]]
        assert len(set(caches)) == len(caches)
    assert count == 10


class Killed(BaseException):
    """In the place of SIGKILL."""


class Mine:
    """A layout of a stranger's own."""

    name = "mine"

    def documents(self, split: str, pairs: Sequence[LayoutPair]) -> Mapping[str, str]:
        return {f"mine-{split}.txt": "".join(f"{pair.target}\t{pair.instruction}\n" for pair in pairs)}


def test_killed_and_repeated_taken_down_and_with_a_layout_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_run(tmp_path / "run")
    curate(run)
    layouts = load_layouts(["kiwi", f"{__name__}:Mine"])
    export_files(run, tmp_path / "whole", layouts)
    calls, original = 0, Store.write

    def write(self: Store, *args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 17:
            raise Killed
        original(self, *args, **kwargs)

    monkeypatch.setattr(Store, "write", write)
    with pytest.raises(Killed):
        export_files(run, tmp_path / "out", layouts)
    monkeypatch.undo()
    assert json.loads((tmp_path / "out" / CONTENTS).read_text())["complete"] is False
    [video] = list((tmp_path / "out").glob("*/target/*.mp4"))[:1]
    video.write_bytes(b"damaged")
    export_files(run, tmp_path / "out", layouts)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    of_run.take_down(run, [GOOD[1]])
    export_files(run, tmp_path / "out", layouts[:1])
    left = files(tmp_path / "out")
    assert not any(GOOD[1] in path or path.startswith("mine-") for path in left)
    assert all(files(tmp_path / "whole")[path] == sha for path, sha in left.items() if "/" in path)
    tables = [table.read_text().splitlines() for table in (tmp_path / "out").glob("kiwi-*.csv")]
    rows = [row for table in tables for row in csv.DictReader(table)]
    assert len(rows) == sum("/target/" in path for path in left) == 6
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/dataset.json").touch()
    with pytest.raises(FatalError, match="holds an export of shards"):
        export_files(run, tmp_path / "shards", layouts)


def test_an_unknown_layout_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'kiwii'.*did you mean 'kiwi'"):
        load_layouts(["kiwii"])
