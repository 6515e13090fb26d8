"""Both pipelines with the models of profile `small`: tiny random checkpoints, on a CPU, inline and on Ray.

The profile is the one that is shipped; checkpoints, devices and sizes are exchanged. What a random model paints is no
edit, so nothing is asked of its quality. The vision-language model is a local server that gives valid answers.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.cluster_utils import Cluster

from ffpdata.core.config import Library, Pipeline, load_pipeline
from ffpdata.core.run import RunFolder
from ffpdata.core.views import records
from ffpdata.export.shards import export
from ffpdata.media.codec import read_masks, video_info
from ffpdata.runners.session import Work, start
from tests.models import tiny_vision, tiny_wan
from tests.models.conftest import Clock
from tests.openai_server import Say, Server

pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")

CLIP = {"width": 64, "height": 64, "fps": 16, "frames": 9}
OVERRIDES = [f"clip={json.dumps(CLIP)}", "ingest.min_side=64", "input.styles_per_source=1", "measure.limits={}"]
LOCAL = ["condition.max_area=1"]
MODEL = "Qwen/Qwen2.5-VL-7B-Instruct-AWQ"
PLACE = (
    "The video shows a quiet yard with a grey wall, two low benches, a row of green plants, wet paving stones and a "
    "wooden gate under soft morning light while thin clouds drift slowly over the roofs behind it"
)
ANSWERS: dict[str, dict[str, Any]] = {
    "identify": {"objects": ["dog", "ball"]},
    "caption": {"caption": " ".join(PLACE.split()[:24]) + "."},
    "removal_caption": {"caption": f"{PLACE} and beside the old trees."},
    "cinematic_caption": {"caption": f"{PLACE}, and the camera moves slowly forward."},
    "style_caption": {"style": "loose oil painting", "caption": f"{PLACE}, in thick strokes of ochre and blue."},
    "screen": {
        "reason": "Nothing of it is left.",
        "object_gone": True,
        "replaced_by_other": False,
        "shadow_or_reflection_left": False,
        "background_plausible": True,
        "flicker": False,
        "contour_artifacts": False,
        "score": 8,
    },
    "discriminate": {"reason": "Another animal stands there.", "task": "swap"},
    "instruct": {"instruction": "Replace the dog in the yard with a brown fox."},
    "instruct_style": {"instruction": "Restyle the whole video as a loose oil painting."},
    "verify": {"reason": "It is what was asked for.", "follows": True, "score": 9},
}


def answer(body: dict[str, Any]) -> Say:
    return Say(json.dumps(ANSWERS[body["response_format"]["json_schema"]["name"]]))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(answer, models=(MODEL,)) as server:
        yield server


@pytest.fixture(scope="module")
def pipeline(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pipeline]:
    """Loads a pipeline with the tiny models in its roles."""
    folder = tmp_path_factory.mktemp("checkpoints")
    vace, i2v = tiny_wan.write_vace(folder / "vace", shards=2), tiny_wan.write_i2v(folder / "i2v")
    lora = {"model": str(tiny_wan.write_lora(folder / "removal.safetensors", layers=("blocks.0.self_attn.q",)))}
    path = Library.find().root / "pipelines" / "profiles" / "small.yaml"
    profile: dict[str, Any] = yaml.safe_load(path.read_text())
    models = profile["models"]
    models["vision_language"]["runtime"]["endpoint"] = server.url
    models["segmenter"] |= {"model": str(tiny_vision.sam2(folder / "sam2"))}
    models["segmenter"]["settings"] = {
        "detector": str(tiny_vision.grounding_dino(folder / "dino")),
        "max_instances": 50,
        "dtype": "float32",
        **tiny_vision.ANY_MASK,
    }
    for role in ("remover", "swapper", "stylizer"):
        settings = models[role]["settings"] | {"steps": 2, "sources": {}, "loras": [lora] if role == "remover" else []}
        models[role] |= {"model": str(vace), "backend": "tests.models.tiny_wan:TinyVace", "settings": settings}
    settings = models["image_to_video"]["settings"] | {"steps": 2, "sources": {}, "loras": []}
    models["image_to_video"] |= {"model": str(i2v), "backend": "tests.models.tiny_wan:TinyAnimator"}
    models["image_to_video"]["settings"] = settings
    models["depth_estimator"] |= {"model": str(tiny_vision.video_depth(folder / "depth"))}
    models["depth_estimator"]["settings"] = {"side": 56, "dtype": "float32"}
    for spec in models.values():
        spec.pop("revision", None)
        if "device" in spec["runtime"]:
            spec["runtime"] = {"device": "cpu"}
        spec["resources"] = {"cpus": 1, "gpus": 0, "memory_gb": 2}
    written = folder / "tiny.yaml"
    written.write_text(yaml.safe_dump(profile))
    return lambda name: load_pipeline(name, str(written), OVERRIDES + (LOCAL if name == "local_editing" else []))


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
    run, work = RunFolder(folder / "run"), Work(runner=runner, quiet=True)
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
    assert asked == set(ANSWERS)


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


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
