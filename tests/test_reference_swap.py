"""Pipeline `reference_swap`: from clips and pictures to pairs that carry their picture."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import UsageError
from ffpdata.core.sections import InputSettings
from ffpdata.core.stage import ModelSpec, Reject
from ffpdata.export.shards import export
from ffpdata.export.verify import verify
from ffpdata.inputs.listing import list_inputs
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.media.codec import read_image, write_image
from ffpdata.models.classical.swapper import Recolour
from ffpdata.runners.session import StartOptions, start
from ffpdata.stages.source import Source
from ffpdata.stages.synthesize import Synthesize
from tests.answers import ANSWERS, PLACE
from tests.conftest import SMALL_SETTINGS
from tests.stages.alone import FPS, Alone, Inverting, asked, flat, spec, square

REFERENCED = InputSettings(kind="referenced")
CAPTION = {"new_object": "small red boat", "caption": f"{PLACE}."}
SEEN = {"reason": "A boat is there.", "score": 8} | dict.fromkeys(
    ("object_gone", "same_as_reference", "fits_together", "moves_plausibly"), True
)
SEEN |= dict.fromkeys(("reference_leaks", "flicker", "contour_artifacts"), False)
TOLD = {
    **ANSWERS,
    "reference_caption": CAPTION,
    "screen_reference": SEEN,
    "instruct_reference": {"instruction": "Replace the ball with the red boat of the reference image."},
    "verify_reference": ANSWERS["verify"],
}
PAINTER = f"""\
from ffpdata import Edit

TOLD = {TOLD!r}


class Painter:
    name, version = "painter", 1

    def __init__(self, spec):
        pass

    def edit(self, frames, masks, *, reference=None, **asked):
        out = frames.copy()
        out[masks] = reference.reshape(-1, 3).mean(0)
        return Edit(out)

    def close(self):
        pass


class Teller:
    name, version = "teller", 1

    def __init__(self, spec):
        pass

    def ask(self, prompt, media, fields):
        if "reference" in prompt.name:
            assert media["reference"].ndim == 3
        return dict(TOLD[prompt.name])

    def close(self):
        pass
"""
PROFILE = """\
models:
  vision_language: {backend: "painter:Teller"}
  swapper: {backend: "painter:Painter"}
"""


@pytest.fixture
def alone(tmp_path: Path) -> Alone:
    return Alone(tmp_path)


def picture(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_image(path, np.full((256, 300, 3), colour, np.uint8))
    return path


@pytest.fixture(scope="module")
def inputs(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("referenced")
    (folder / "content").mkdir()
    shutil.copy(samples / "clips" / "ball_static.mp4", folder / "content")
    picture(folder / "reference" / "red.png", (220, 30, 30))
    picture(folder / "reference" / "blue.png", (30, 30, 220))
    return folder


def test_a_pair_carries_its_picture(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "painter.py").write_text(PAINTER)
    (tmp_path / "two.yaml").write_text(PROFILE)
    settings = [*SMALL_SETTINGS, "input.references_per_source=2", "measure.limits={}"]
    pipeline = load_pipeline("reference_swap", f"cpu,{tmp_path / 'two.yaml'}", settings)
    run = RunFolder(tmp_path / "run")
    start(run, pipeline, str(inputs), StartOptions(quiet=True))
    rows = records(run.connect(), "from items order by reference_id")
    assert [(row["task"], row["status"], row["reason"]) for row in rows] == [("reference_swap", "ok", None)] * 2, rows
    assert len({row["segment_key"] for row in rows}) == 1
    assert len({row["synthesize_key"] for row in rows}) == 2, "the picture counts"
    export(run, tmp_path / "out")
    assert verify(tmp_path / "out").ok
    with tarfile.open(next((tmp_path / "out").glob("*/*.tar"))) as tar:
        members = {m.name.partition(".")[2]: m.name for m in tar if "-" in m.name}
        name = members["reference.png"]
        record = json.load(tar.extractfile(members["json"]))  # type: ignore[arg-type]
        (tmp_path / "got.png").write_bytes(tar.extractfile(name).read())  # type: ignore[union-attr]
    assert record["reference"]["object"] == "small red boat"
    assert record["reference"]["id"] in {row["reference_id"] for row in rows}
    height, width = read_image(tmp_path / "got.png").shape[:2]
    assert width / height == pytest.approx(300 / 256, rel=0.02), "the picture's own shape, not cropped"


def test_the_classical_models_say_what_they_cannot(inputs: Path, tmp_path: Path, alone: Alone) -> None:
    run = RunFolder(tmp_path / "run")
    start(run, load_pipeline("reference_swap", None, SMALL_SETTINGS), str(inputs), StartOptions(quiet=True))
    [row] = records(run.connect(), "from items")
    assert (row["stage"], row["reason"]) == ("reference_caption", "needs_trained_model")
    stage = Synthesize(None, {"swapper": ModelSpec.of(Recolour)})
    with pytest.raises(Reject) as caught:
        alone.process(stage, **edit(alone))
    assert caught.value.detail == "recolour makes swap, and not reference_swap"


def edit(alone: Alone, **more: object) -> dict[str, object]:
    files = {"source_video": alone.video("in", flat(40)), "condition_mask": alone.masks("mask", square())}
    return files | {"task": "reference_swap", "caption": PLACE, "object": "dog", "seed": 7, "fps": FPS} | more


def test_the_editor_is_given_the_picture_and_other_tasks_none(alone: Alone) -> None:
    stage = Synthesize(None, {"swapper": spec(Inverting)})
    image = alone.image("reference", flat(90)[0])
    alone.process(stage, **edit(alone, reference_image=image))
    alone.process(stage, **edit(alone, task="swap"))
    first, second = asked(stage, "swapper")
    assert np.array_equal(first["reference"], flat(90)[0])
    assert "reference" not in second
    with pytest.raises(Reject) as caught:
        alone.process(stage, **edit(alone))
    assert caught.value.reason == "no_reference_image"


def test_a_picture_counts_where_there_is_one_and_other_rows_keep_their_keys() -> None:
    values = {"source_video": "a", "condition_mask": "b", "task": "swap", "caption": "c", "object": "d", "seed": 1}
    before = type("Before", (Synthesize,), {"name": "synthesize", "reads": Synthesize.reads[:-1], "added": ()})
    one, other = (Synthesize().key_of(values | {"reference_image": name}) for name in ("x", "y"))
    assert Synthesize().key_of(values) == Synthesize().key_of(values | {"reference_image": None})
    assert Synthesize().key_of(values) == before().key_of(values)
    assert len({one, other, Synthesize().key_of(values)}) == 3


def test_pictures_of_a_table_and_of_a_folder(inputs: Path, tmp_path: Path, alone: Alone) -> None:
    [item] = list_inputs(str(inputs), REFERENCED)
    assert len(item.values["reference_paths"]) == 1
    table = tmp_path / "clips.csv"
    picture(tmp_path / "reference" / "a.png", (1, 2, 3))
    picture(tmp_path / "b.png", (1, 2, 3))
    (tmp_path / "clip.mp4").write_bytes(b"x")
    table.write_text("path,reference\nclip.mp4,b.png\nother.mp4,\nclip.mp4,../outside.png\n")
    found = list_inputs(str(table), REFERENCED)
    names = [[Path(path).name for path in item.values.get("reference_paths", [])] for item in found]
    assert names == [["b.png", "outside.png"], ["a.png"]], "the lines of one clip are joined, as those of styles"
    [one, *_] = list_inputs(str(table), InputSettings())
    assert one.values["meta"] == {"reference": "b.png"}, "another pipeline's table may have such a column"
    assert "reference_paths" not in one.values
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"x")
    with pytest.raises(UsageError, match="pictures of objects in reference/"):
        list_inputs(str(tmp_path / "clips"), REFERENCED)
    (tmp_path / "clips" / "content").mkdir()
    with pytest.raises(UsageError, match="no reference/"):
        list_inputs(str(tmp_path / "clips"), REFERENCED)


def test_a_source_names_its_pictures_by_their_bytes(alone: Alone) -> None:
    (alone.folder / "a.mp4").write_bytes(b"clip")
    picture(alone.folder / "a.png", (1, 2, 3))
    root = str(alone.folder)
    row = {"path": f"{root}/a.mp4", "root": root, "reference_paths": [f"{root}/a.png"]}
    [child] = alone.expand(Source(), **row)
    assert child.columns["reference_paths"] == ["a.png"]
    assert len(child.columns["reference_ids"][0]) == 16
