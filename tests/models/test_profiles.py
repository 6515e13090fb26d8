"""The profiles that come with ffpdata: every role of both pipelines, with settings that its back end takes."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest
from pydantic import BaseModel

from ffpdata.core.config import Library, load_pipeline
from ffpdata.media.conditioning import check_clip
from ffpdata.models.settings import parse_settings
from ffpdata.models.vlm.settings import VisionRuntime, VisionSettings
from ffpdata.models.wan.settings import DiffsynthRuntime

PROFILES = ("gpu", "small")
PIPELINES = ("local_editing", "stylization")
SETTINGS = {
    "ffpdata.models.vlm.backend:ServedVision": VisionSettings,
    "ffpdata.models.grounded_sam2:GroundedSam2": "GroundedSam2Settings",
    "ffpdata.models.vace:Vace": "VaceSettings",
    "ffpdata.models.wan_i2v:WanAnimator": "AnimatorSettings",
    "ffpdata.models.video_depth.backend:VideoDepthAnything": "VideoDepthSettings",
    "ffpdata.models.video_depth:VideoDepthAnything": "VideoDepthSettings",
}
RUNTIMES = {
    "ffpdata.models.vlm.backend:ServedVision": VisionRuntime,
    "ffpdata.models.vace:Vace": DiffsynthRuntime,
    "ffpdata.models.wan_i2v:WanAnimator": DiffsynthRuntime,
}


@pytest.fixture(params=PROFILES)
def profile(request):
    return {name: load_pipeline(name, request.param) for name in PIPELINES}


def test_every_profile_is_held_here():
    found = {path.stem for path in (Library.find().root / "pipelines" / "profiles").glob("*.yaml")}
    assert set(PROFILES) < found


def test_every_role_has_a_production_model(profile):
    roles = set(load_pipeline("local_editing", "cpu").models)
    for pipeline in profile.values():
        assert set(pipeline.models) == roles
        assert not [role for role, spec in pipeline.models.items() if ".classical." in spec.backend]
        assert all(spec.licence and spec.model != "embedded" for spec in pipeline.models.values())


def test_settings_and_runtime_are_what_the_back_ends_take(profile):
    for spec in profile["local_editing"].models.values():
        model = SETTINGS[spec.backend]
        if isinstance(model, str):
            module = importlib.import_module(spec.backend.partition(":")[0])
            model = getattr(module, model, None) or getattr(
                importlib.import_module(f"{module.__name__}.backend"), model
            )
        assert issubclass(model, BaseModel)
        parse_settings(model, spec)
        runtime = RUNTIMES.get(spec.backend)
        if runtime:
            runtime.model_validate(spec.runtime)
        assert isinstance(spec.load_class().version, int)


def test_every_worker_is_planned_for(profile):
    for pipeline in profile.values():
        for stage in pipeline.build():
            if stage.models:
                assert stage.resources.seconds, stage.name
                assert stage.resources.timeout > 2 * stage.resources.seconds, stage.name


def test_the_models_take_the_clips(profile):
    for pipeline in profile.values():
        clip = SimpleNamespace(**pipeline.clip)
        check_clip(clip.frames, clip.height, clip.width)
        check_clip(clip.frames, clip.width, clip.height)  # portrait


def test_a_role_without_loras_and_one_with_them_share_the_weights(profile):
    models = profile["local_editing"].models
    assert models["remover"] == models["swapper"]
    assert models["stylizer"].settings["sources"] == models["remover"].settings["sources"]


def test_swaps_have_no_box_and_removals_have_one(profile):
    settings = {entry.name: entry.settings for entry in profile["local_editing"].stages}
    variants = settings["condition"]["variants"]
    for edit in settings["propose"]["edits"]:
        assert bool(variants[edit["variant"]]["box"]) == (edit["task"] == "removal")


def test_without_a_gpu_they_fail_instead_of_crawling(profile):
    for role, spec in profile["stylization"].models.items():
        assert role == "vision_language" or spec.runtime["device"] == "cuda", role


def test_what_a_key_needs_to_know_needs_no_torch():
    """A plan is made, and a resumed run looked through, where no model can be loaded."""
    backends = sorted({*SETTINGS, "ffpdata.models.sam3:Sam3", "ffpdata.models.vace_diffusers:DiffusersVace"})
    code = (
        "import sys; from ffpdata.core.stage import ModelSpec\n"
        f"for backend in {backends!r}:\n"
        "    assert ModelSpec(backend=backend).identity()['version'] >= 1, backend\n"
        "assert not {'torch', 'transformers', 'diffsynth', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
