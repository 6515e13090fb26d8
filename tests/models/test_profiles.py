"""The profiles that come with ffpdata: every role of both pipelines, with settings that its back end takes."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import ConfigError
from ffpdata.core.library import Library
from ffpdata.core.licences import licence_class
from ffpdata.core.stage import ModelSpec
from ffpdata.media.geometry import check_clip
from ffpdata.models.grounded_sam2 import GroundedSam2
from ffpdata.models.settings import parse_runtime, parse_settings
from ffpdata.models.video_depth.backend import VideoDepthAnything, VideoDepthSettings
from ffpdata.stages.condition import ConditionSettings

PROFILES = ("gpu", "small")
PIPELINES = ("local_editing", "stylization")
BACKENDS = (
    "ffpdata.models.vlm.backend:ServedVision",
    "ffpdata.models.grounded_sam2:GroundedSam2",
    "ffpdata.models.sam3:Sam3",
    "ffpdata.models.vace:Vace",
    "ffpdata.models.vace_diffusers:DiffusersVace",
    "ffpdata.models.wan_i2v:WanAnimator",
    "ffpdata.models.video_depth:VideoDepthAnything",
    "ffpdata.models.video_depth.backend:VideoDepthAnything",
    "ffpdata.models.perception.clip:Clip",
    "ffpdata.models.perception.dinov2:DinoV2",
    "ffpdata.models.perception.pickscore:PickScore",
    "ffpdata.models.perception.viclip:ViClip",
)


@pytest.fixture(params=PROFILES)
def profile(request):
    return {name: load_pipeline(name, request.param) for name in PIPELINES}


def test_every_profile_is_held_here():
    found = {path.stem for path in (Library.find().root / "pipelines" / "profiles").glob("*.yaml")}
    assert set(PROFILES) < found


def test_every_role_has_a_production_model(profile):
    # None is embedded that is tuned to a clip: what moves an edit along the flow has nothing to learn.
    roles = {"tuned_propagator", *load_pipeline("local_editing", "cpu").models}
    for pipeline in profile.values():
        assert set(pipeline.models) == roles
        assert not [role for role, spec in pipeline.models.items() if ".classical." in spec.backend]
        assert all(spec.licence and spec.model != "embedded" for spec in pipeline.models.values())


def test_settings_and_runtime_are_what_the_back_ends_take(profile):
    for spec in profile["local_editing"].models.values():
        backend = spec.load_class()
        parse_settings(backend.Settings, spec)
        parse_runtime(backend.Runtime, spec)
        assert isinstance(backend.version, int)


def test_the_encoders_that_score_are_named_whole():
    """Repository, commit, licence, memory and seconds; what a licence restricts is restricted for doctor, too."""
    bare, laid = (load_pipeline("local_editing", name).models for name in ("gpu", "gpu,perception"))
    added = {role: laid[role] for role in set(laid) - set(bare)}
    assert set(added) == {"image_text_encoder", "frame_encoder", "preference_scorer", "video_text_encoder"}
    for spec in added.values():
        backend = spec.load_class()
        parse_settings(backend.Settings, spec)
        parse_runtime(backend.Runtime, spec)
        assert len(spec.revision) == 40
        assert spec.resources.gpu_memory_gb
        assert spec.resources.seconds
        needed = {entry.part: (entry.model, len(entry.revision)) for entry in backend.needs(spec).checkpoints}
        assert needed.pop("weights") == (spec.model, 40)
        assert {length for _, length in needed.values()} <= {40}
    classes = {role: licence_class(spec.licence) for role, spec in added.items()}
    assert classes.pop("video_text_encoder") == "non-commercial"
    assert set(classes.values()) == {"attribution"}


def test_the_papers_models_run_as_published():
    models = load_pipeline("local_editing", "gpu").models
    segmenter, depth = models["segmenter"], models["depth_estimator"]
    assert segmenter.load_class() is GroundedSam2
    assert parse_settings(GroundedSam2.Settings, segmenter).detector == "IDEA-Research/grounding-dino-base"
    assert depth.load_class() is VideoDepthAnything
    assert parse_settings(VideoDepthAnything.Settings, depth) == VideoDepthSettings(side=518, dtype="float16")


def test_every_worker_is_planned_for(profile):
    for pipeline in profile.values():
        for stage in pipeline.build():
            if stage.specs:
                assert stage.resources.seconds, stage.name
                assert stage.resources.timeout > 2 * stage.resources.seconds, stage.name


def test_the_models_take_the_clips(profile):
    for pipeline in profile.values():
        clip = SimpleNamespace(**pipeline.clip)
        check_clip(clip.frames, clip.height, clip.width, model="Vace")
        check_clip(clip.frames, clip.width, clip.height, model="Vace")  # portrait


def test_a_role_without_loras_and_one_with_them_share_the_weights(profile):
    models = profile["local_editing"].models
    assert models["remover"] == models["swapper"]
    assert models["stylizer"].settings["sources"] == models["remover"].settings["sources"]


@pytest.mark.parametrize("name", ["cpu", *PROFILES])
def test_swaps_have_no_box_and_removals_have_one(name):
    settings = {entry.name: entry.settings for entry in load_pipeline("local_editing", name).stages}
    variants = ConditionSettings.model_validate(settings["condition"]).variants
    for edit in settings["propose"]["edits"]:
        assert variants[edit["variant"]].box == (edit["task"] == "removal")


def test_without_a_gpu_they_fail_instead_of_crawling(profile):
    for role, spec in profile["stylization"].models.items():
        assert role == "vision_language" or spec.runtime["device"] == "cuda", role


@pytest.mark.parametrize("backend", [*BACKENDS, "ffpdata.models.classical.stylizer.magenta_style:MagentaStylizer"])
def test_a_misspelt_entry_is_named_with_its_back_end(backend):
    spec = ModelSpec(backend=backend, model="m", settings={"dtipe": 1}, runtime={"devise": 1})
    kind = spec.load_class()
    with pytest.raises(ConfigError, match=f"^settings of {backend}: no entry 'dtipe'"):
        parse_settings(kind.Settings, spec)
    with pytest.raises(ConfigError, match=f"^runtime of {backend}: no entry 'devise'"):
        parse_runtime(kind.Runtime, spec)


def test_what_a_key_needs_to_know_needs_no_torch():
    """A plan is made, and a resumed run looked through, where no model can be loaded."""
    code = (
        "import sys; from ffpdata.core.stage import ModelSpec\n"
        f"for backend in {BACKENDS!r}:\n"
        "    assert ModelSpec(backend=backend).identity()['version'] >= 1, backend\n"
        "assert not {'torch', 'transformers', 'diffsynth', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
