"""Both pipelines with the models of profile `small`: tiny random checkpoints, on a CPU, inline and on Ray.

The profile is the one that is shipped; checkpoints, devices and sizes are exchanged. What a random model paints is no
edit, so nothing is asked of its quality. The vision-language model is a local server that gives valid answers.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from ffpdata.core.config import Pipeline, load_pipeline
from ffpdata.export.shards import export
from ffpdata.export.verify import verify
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.media.codec import read_masks, video_info
from ffpdata.runners.session import StartOptions, start
from tests.models.conftest import Clock
from tests.models.tiny_profile import ANSWERS, LOCAL, MODEL, OVERRIDES, answer, write_profile
from tests.openai_server import Server

pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")


EDITS = "[{task: swap, variant: bbox}, {task: addition}, {task: stylization}]"
FRAMES = [*LOCAL, "check_frame.limits={}", f"propose_frame.edits={EDITS}"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(answer, models=(MODEL,)) as server:
        yield server


@pytest.fixture(scope="module")
def pipeline(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pipeline]:
    """Loads a pipeline with the tiny models in its roles."""
    written = write_profile(tmp_path_factory.mktemp("checkpoints"), server.url, first_frames=True)
    own = {"local_editing": LOCAL, "propagation": FRAMES}
    return lambda name: load_pipeline(name, str(written), OVERRIDES + own.get(name, []))


@pytest.fixture(scope="module")
def inputs(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip without hints for one track, and a still with one style for the other."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, path in (
        ("clips", samples / "clips" / "crate_static.mp4"),
        ("content", samples / "content" / "coffee.png"),
        ("style", samples / "style" / "oil.png"),
    ):
        (folder / name).mkdir()
        shutil.copy(path, folder / name)
    return folder


def go(folder: Path, pipeline: Callable[[str], Pipeline], inputs: Path, runner: str) -> RunFolder:
    run, work = RunFolder(folder / "run"), StartOptions(runner=runner, quiet=True)
    start(run, pipeline("local_editing"), str(inputs / "clips"), work)
    start(run, pipeline("stylization"), str(inputs), work)
    export(run, folder / "out", shard_size_mb=1)
    return run


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """What the first test makes."""
    return RunFolder(tmp_path_factory.getbasetemp() / "production-inline" / "run")


def rows(run: RunFolder, sql: str) -> list[dict[str, Any]]:
    return records(run.connect(), sql)


def test_every_item_becomes_a_pair(
    inline: RunFolder, pipeline: Callable[[str], Pipeline], inputs: Path, clock: Clock
) -> None:
    with clock("both pipelines with every production back end, inline,"):
        go(Path(inline.store.root).parent, pipeline, inputs, "inline")
    found = rows(inline, "select item_id, track, stage, status, reason, error from items order by item_id")
    assert [(row["track"], row["stage"], row["status"]) for row in found] == [
        ("local", "curate", "ok"),
        ("local", "curate", "ok"),
        ("style", "curate", "ok"),
    ], found


def test_every_role_was_played_by_its_model(inline: RunFolder, server: Server) -> None:
    models = {
        row["stage"]: row["model"]
        for stage in ("segment", "synthesize", "animate", "depth", "stylize", "verify")
        for row in rows(inline, f"select stage, model from {stage}")
    }
    ends = {"segment": "sam2", "synthesize": "vace", "animate": "i2v", "depth": "depth", "stylize": "vace"}
    assert {stage: Path(models[stage].partition("@")[0]).name for stage in ends} == ends
    assert models["verify"].startswith(MODEL)
    asked = {body["response_format"]["json_schema"]["name"] for body in server.requests}
    assert asked == set(ANSWERS) - {"plan_frame"}, "which the third track asks"


def test_edits_have_the_clips_shape_and_masks_something_to_edit(inline: RunFolder) -> None:
    for row in rows(inline, "select target_video, condition_mask, source_video from items"):
        for column in ("target_video", "source_video"):
            info = video_info(inline.store.fetch(row[column]))
            assert (info.frames, info.height, info.width) == (9, 64, 64)
        if row["condition_mask"]:
            assert read_masks(inline.store.fetch(row["condition_mask"])).any()


def test_what_an_answer_cost_is_in_the_manifest(inline: RunFolder) -> None:
    [row] = rows(
        inline,
        "select count(*) as n, sum((notes->'$.verify.prompt_tokens')::int) as tokens, "
        "any_value(notes->'$.verify.frames.source') as frames from verify",
    )
    assert (row["n"], row["tokens"], row["frames"]) == (3, 300, "[0,1,2,3,5,6,7,8]")


@pytest.mark.timeout(600)
def test_ray_gives_the_same_shards(
    inline: RunFolder,
    pipeline: Callable[[str], Pipeline],
    inputs: Path,
    tmp_path: Path,
    clock: Clock,
) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
    try:
        with clock("both pipelines with every production back end, on Ray,"):
            go(tmp_path, pipeline, inputs, "ray")
    finally:
        ray.shutdown()
        cluster.shutdown()
    first, second = Path(inline.store.root).parent / "out", tmp_path / "out"
    assert files(second) == files(first)


def test_first_frames_are_edited_and_carried_on(
    pipeline: Callable[[str], Pipeline], inputs: Path, tmp_path: Path, clock: Clock
) -> None:
    """The third track with Qwen-Image-Edit and Fun-Control in their roles, each task of it."""
    (inputs / "clips.csv").write_text("path,style\nclips/crate_static.mp4,style/oil.png\n")
    run = RunFolder(tmp_path / "run")
    with clock("the third track with every production back end, inline,"):
        start(run, pipeline("propagation"), str(inputs / "clips.csv"), StartOptions(quiet=True))
    found = rows(run, "select task, stage, status, reason, error, object, edit_frame_model, propagate_model from items")
    assert sorted((row["task"], row["status"]) for row in found) == [
        ("addition", "ok"),
        ("stylization", "ok"),
        ("swap", "ok"),
    ], found
    for row in found:
        assert Path(row["edit_frame_model"].partition("@")[0]).name == "qwen"
        assert Path(row["propagate_model"].partition("@")[0]).name == "fun_control"
        assert row["task"] == "stylization" or row["object"] == {"addition": "red lantern", "swap": "dog"}[row["task"]]
    export(run, tmp_path / "out", shard_size_mb=1)
    assert verify(tmp_path / "out").problems == []


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
