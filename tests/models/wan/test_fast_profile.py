"""Profile `fast`: the steps that the LoRAs are distilled for, by the schedulers that run them."""

from __future__ import annotations

import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.models.settings import parse_settings

DISTILLED = [1.0, 0.9375, 0.8333, 0.625]
"""LightX2V's WanStepDistillScheduler: timesteps 1000, 750, 500 and 250 of 1000, shifted by 5."""

WAN_ROLES = ("remover", "swapper", "stylizer", "image_to_video")


@pytest.fixture(scope="module")
def models():
    return load_pipeline("stylization", "gpu,fast").models


@pytest.fixture(params=WAN_ROLES)
def settings(request, models):
    spec = models[request.param]
    return parse_settings(spec.load_class().Settings, spec)


def test_only_the_wan_roles_are_laid_over_gpu(models):
    full = load_pipeline("stylization", "gpu").models
    assert models.keys() == full.keys()
    assert {role for role in models if models[role] != full[role]} == set(WAN_ROLES)
    for role in WAN_ROLES:
        one, other = models[role], full[role]
        assert (one.model, one.revision, one.backend) == (other.model, other.revision, other.backend)
        assert one.resources.seconds < other.resources.seconds / 15
        assert one.settings["sources"] == other.settings["sources"]


def test_a_lora_and_no_guidance(settings):
    assert (settings.steps, settings.guidance, settings.shift) == (4, 1.0, 5.0)
    (lora,) = settings.loras
    assert (lora.model, lora.strength) == ("lightx2v/Wan2.1-Distill-Loras", 1.0)


def test_the_text_to_video_lora_is_for_vace(models):
    files = {role: models[role].settings["loras"][0]["file"] for role in WAN_ROLES}
    assert {role: file.split("_")[1] for role, file in files.items()} == {
        "remover": "t2v",
        "swapper": "t2v",
        "stylizer": "t2v",
        "image_to_video": "i2v",
    }


def test_the_steps_of_diffsynth(settings):
    wan_video = pytest.importorskip("diffsynth.pipelines.wan_video", reason="diffsynth is not installed")
    scheduler = wan_video.WanVideoPipeline(device="cpu").scheduler
    scheduler.set_timesteps(settings.steps, shift=settings.shift)
    assert scheduler.sigmas.tolist() == pytest.approx(DISTILLED, abs=1e-4)
    assert scheduler.timesteps.tolist() == pytest.approx([1000 * sigma for sigma in DISTILLED], abs=0.1)


@pytest.mark.parametrize("steps", [1, 4, 50])
def test_the_steps_of_diffusers_euler_are_those_of_diffsynth(steps):
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    flow_match = pytest.importorskip("diffsynth.diffusion.flow_match", reason="diffsynth is not installed")
    from ffpdata.models.vace_diffusers import DiffusersSettings, make_scheduler

    scheduler = make_scheduler(DiffusersSettings(sampler="euler", shift=5.0), {})
    scheduler.set_timesteps(steps, device="cpu")
    sigmas, timesteps = flow_match.FlowMatchScheduler("Wan").set_timesteps_fn(steps, shift=5.0)
    assert scheduler.sigmas.tolist() == pytest.approx([*sigmas.tolist(), 0.0], abs=1e-6)
    assert scheduler.timesteps.tolist() == pytest.approx(timesteps.tolist(), abs=1e-3)
    if steps == 4:
        assert scheduler.sigmas.tolist() == pytest.approx([*DISTILLED, 0.0], abs=1e-4)
