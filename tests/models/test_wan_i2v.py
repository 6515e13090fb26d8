"""Wan image-to-video on a tiny random checkpoint, through the code that loads and runs the real one."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.stage import Item, ModelSpec
from ffpdata.media.codec import read_video, write_image
from ffpdata.models.wan_i2v import WanAnimator
from ffpdata.runners.execute import execute
from ffpdata.stages.animate import Animate
from ffpdata.storage.store import Store
from tests.models import tiny_wan as tiny

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny.write_i2v(tmp_path_factory.mktemp("i2v"))


@pytest.fixture(scope="module")
def spec(checkpoint):
    def of(**settings):
        return ModelSpec(
            backend="ffpdata.models.wan_i2v:WanAnimator",
            model=str(checkpoint),
            settings={"steps": 2, **settings},
            runtime={"device": "cpu"},
        )

    return of


@pytest.fixture(scope="module")
def model(spec):
    made = WanAnimator(spec())
    yield made
    made.close()


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)


@pytest.fixture(scope="module")
def plain(model, image):
    return model.animate(image, prompt="a slow pan", frames=9, seed=3)


def test_a_still_becomes_a_clip_of_its_size(plain):
    assert plain.frames.dtype == np.uint8
    assert plain.frames.shape == (9, 64, 80, 3)
    assert plain.frames.std() > 20
    assert plain.facts["first_frame_drift"] > 0


def test_image_prompt_and_seed_count_and_nothing_else(model, image, plain):
    def made(picture=image, prompt="a slow pan", seed=3):
        return model.animate(picture, prompt=prompt, frames=9, seed=seed).frames

    assert np.array_equal(made(), plain.frames)
    assert not np.array_equal(made(picture=255 - image), plain.frames)
    assert not np.array_equal(made(prompt="a dolly in"), plain.frames)
    assert not np.array_equal(made(seed=4), plain.frames)


def test_the_clip_can_begin_with_the_image_itself(spec, image, plain):
    model = WanAnimator(spec(first_frame="image"))
    made = model.animate(image, prompt="a slow pan", frames=9, seed=3)
    model.close()
    assert np.array_equal(made.frames[0], image)
    assert np.array_equal(made.frames[1:], plain.frames[1:])
    assert made.facts == plain.facts


def test_the_negative_prompt_is_a_setting(spec, image, plain):
    model = WanAnimator(spec(negative="still picture"))
    assert not np.array_equal(model.animate(image, prompt="a slow pan", frames=9, seed=3).frames, plain.frames)
    model.close()


def test_sizes_are_checked(model, image):
    with pytest.raises(ConfigError, match=r"not 10: set clip\.frames to 9 or 13"):
        model.animate(image, prompt="", frames=10)
    with pytest.raises(ConfigError, match="not 80 x 60: try 80 x 64"):
        model.animate(image[:60], prompt="", frames=9)
    with pytest.raises(TypeError, match="uint8"):
        model.animate(image.astype(np.float32), prompt="", frames=9)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path_factory):
    vace = tiny.write_vace(tmp_path_factory.mktemp("vace"))
    with pytest.raises(FatalError, match=r"image_encoder of .*no file models_clip.*settings\.sources\.image_encoder"):
        WanAnimator(ModelSpec(backend="ffpdata.models.wan_i2v:WanAnimator", model=str(vace), runtime={"device": "cpu"}))


def test_the_stage_runs_it(spec, image, tmp_path):
    store = Store(str(tmp_path / "run"))
    path = store.temp_file("image.png")
    write_image(path, image)
    store.commit(path, "artifacts/content_image/aa/image.png")
    values = {
        "content_image": "artifacts/content_image/aa/image.png",
        "cinematic_caption": "a pan",
        "frames": 9,
        "fps": 16,
    }
    stage = Animate(specs={"image_to_video": spec()})
    outcome = execute(stage, Item("clip", values), store)
    stage.teardown()
    assert outcome.status == "ok", outcome.error
    columns = outcome.children[0].columns
    assert set(columns["animate_facts"]) == {"first_frame_drift"}
    assert read_video(store.fetch(columns["source_video"])).shape == (9, 64, 80, 3)
