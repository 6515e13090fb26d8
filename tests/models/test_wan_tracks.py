"""Both tracks from a profile file to the edited clip, with tiny VACE and Wan checkpoints in the roles of the paper.

Perception and judgement are the embedded models': what a random model paints, they may well reject.
"""

from __future__ import annotations

import importlib.util
import json

import pytest
import yaml

from ffpdata.core.config import Library, load_pipeline
from ffpdata.core.run import RunFolder
from ffpdata.core.views import records
from ffpdata.media.codec import video_info
from ffpdata.runners.session import Work, start
from tests.models import tiny_wan as tiny

pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")

CLIP = {"width": 160, "height": 96, "fps": 16, "frames": 17}
OVERRIDES = [f"clip={json.dumps(CLIP)}", "ingest.min_side=96", "input.styles_per_source=1"]


@pytest.fixture(scope="module")
def tracks(samples, tmp_path_factory):
    """Starts a track, in one run folder for both."""
    folder = tmp_path_factory.mktemp("wan")
    vace, i2v = tiny.write_vace(folder / "vace"), tiny.write_i2v(folder / "i2v")
    lora = tiny.write_lora(folder / "removal.safetensors")
    common = {"licence": "none", "runtime": {"device": "cpu"}}
    editor = {"backend": "ffpdata.models.vace:Vace", "model": str(vace), "revision": "tiny", **common}
    models = {
        "remover": {**editor, "settings": {"steps": 1, "loras": [{"model": str(lora)}]}},
        "swapper": {**editor, "settings": {"steps": 1}},
        "stylizer": {**editor, "settings": {"steps": 1}},
        "image_to_video": {
            "backend": "ffpdata.models.wan_i2v:WanAnimator",
            "model": str(i2v),
            "settings": {"steps": 1},
            **common,
        },
    }
    cpu = yaml.safe_load((Library.find().root / "pipelines" / "profiles" / "cpu.yaml").read_text())["models"]
    # So small, objects are a few pixels: what is found counts here, however badly.
    guards = ("temporal_iou", "motion_coherence", "travel", "distinctness", "isolation", "inliers", "coverage")
    cpu["segmenter"]["settings"] = {f"min_{guard}": 0 for guard in guards}
    profile = folder / "tiny.yaml"
    profile.write_text(yaml.safe_dump({"name": "tiny", "models": {**cpu, **models}}))
    run = RunFolder(folder / "run")

    def begin(name, source, limit):
        pipeline = load_pipeline(name, str(profile), OVERRIDES)
        start(run, pipeline, str(samples / source), Work(quiet=True, limit=limit))
        return run

    return begin


@pytest.fixture(scope="module")
def local(tracks):
    return tracks("local_editing", "clips.csv", 1)


@pytest.fixture(scope="module")
def style(tracks):
    return tracks("stylization", "", 2)


def rows(run, sql):
    return records(run.connect(), sql)


def test_every_edit_is_made_by_vace(local):
    made = rows(local, "select * from synthesize")
    assert {row["item_id"].split("/")[-2] for row in made} == {"removal", "swap"}
    assert {row["status"] for row in made} == {"ok"}, [row["error"] for row in made]
    assert {row["model"].rpartition("@")[2] for row in made} == {"tiny"}
    for row in made:
        info = video_info(local.store.fetch(row["target_video"]))
        assert (info.frames, info.height, info.width) == (17, 96, 160)


def test_a_still_is_animated_and_restyled(style):
    assert {row["status"] for row in rows(style, "select * from animate")} == {"ok"}
    styled = rows(style, "select * from stylize")
    assert styled
    assert {row["status"] for row in styled} == {"ok"}, [row["error"] for row in styled]


def test_every_pair_is_measured(local, style):
    judged = rows(style, "select item_id, status from measure")
    made = rows(local, "select item_id from synthesize union all select item_id from stylize")
    assert {row["item_id"] for row in judged} == {row["item_id"] for row in made}
    assert {row["status"] for row in judged} <= {"ok", "rejected"}
