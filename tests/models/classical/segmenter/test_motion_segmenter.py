import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, Reject
from ffpdata.media import masks as geometry
from ffpdata.models.classical.segmenter.motion_segmenter import MotionSegmenter
from tests.models.classical.sampled import drawn, spec

NAMES = ["ball_static", "crate_static", "motorcycle_pan", "coin_pan", "cup_handheld"]
MIN_MEAN_IOU = 0.75


@pytest.fixture(scope="module")
def found():
    return {name: MotionSegmenter(spec()).segment(drawn(name).frames, ["thing"]) for name in NAMES}


@pytest.mark.slow
def test_mean_iou_on_the_sample_scenes(found):
    means = {name: float(geometry.iou(found[name].masks, drawn(name).masks).mean()) for name in NAMES}
    assert np.mean(list(means.values())) >= MIN_MEAN_IOU + 0.1, means
    assert min(means.values()) >= MIN_MEAN_IOU, means


def test_an_answer_names_the_phrase_and_what_was_measured(found):
    answer = found["ball_static"]
    assert answer.phrase == "thing"
    assert 0.9 < answer.score <= 1
    assert answer.masks.dtype == np.bool_
    assert answer.masks.shape == (33, 192, 320)
    assert answer.facts["coverage"] == 1.0
    assert answer.facts["area"] == pytest.approx(drawn("ball_static").masks.mean(), rel=0.15)
    assert {"temporal_iou", "motion_coherence", "travel", "border"} <= set(answer.facts)
    assert all(isinstance(v, float) for v in answer.facts.values())


def test_same_input_same_masks(found):
    again = MotionSegmenter(spec()).segment(drawn("cup_handheld").frames, ["thing"])
    assert np.array_equal(again.masks, found["cup_handheld"].masks)
    assert again.facts == found["cup_handheld"].facts


@pytest.mark.parametrize("name", ["ball_static", "astronaut_handheld", "cup_handheld"])
def test_a_users_box_is_followed(name):
    scene = drawn(name)
    box = tuple(geometry.bounding_boxes(geometry.box(scene.masks, 0.05, 1))[0].tolist())
    answer = MotionSegmenter(spec()).segment(scene.frames, ["thing"], box)
    assert geometry.iou(answer.masks, scene.masks).mean() >= MIN_MEAN_IOU


def test_a_users_box_finds_what_does_not_move():
    scene = drawn("cup_handheld")
    first = np.stack([scene.frames[0]] * 9)
    box = tuple(geometry.bounding_boxes(geometry.box(scene.masks, 0.08, 1))[0].tolist())
    answer = MotionSegmenter(spec()).segment(first, ["cup"], box)
    assert geometry.iou(answer.masks, np.stack([scene.masks[0]] * 9)).min() > 0.8
    with pytest.raises(Reject, match="no_target"):
        MotionSegmenter(spec()).segment(first, ["cup"])


def test_a_box_off_the_frame_holds_nothing():
    with pytest.raises(Reject, match="no_target"):
        MotionSegmenter(spec()).segment(drawn("ball_static").frames[:9], ["x"], (400, 10, 500, 60))


def test_an_object_that_leaves_and_returns_is_found_again():
    scene = drawn("ball_static")
    there, back = scene.frames[::2], scene.frames[::-2]
    nothing = np.stack([scene.background[0]] * 4)
    rng = np.random.default_rng(0)
    nothing = np.clip(nothing + rng.normal(0, 1.5, nothing.shape), 0, 255).astype(np.uint8)
    clip = np.concatenate([there, nothing, back])
    truth = np.concatenate([scene.masks[::2], np.zeros_like(scene.masks[:4]), scene.masks[::-2]])
    answer = MotionSegmenter(spec()).segment(clip, ["ball"])
    assert answer.facts["coverage"] == pytest.approx(34 / 38)
    assert geometry.iou(answer.masks, truth).mean() > MIN_MEAN_IOU


def water(frames: int = 17) -> np.ndarray:
    """Ripples everywhere: motion that is no object's."""
    ys, xs = np.mgrid[:192, :320].astype(np.float32)
    clip = []
    for t in range(frames):
        wave = sum(np.sin(xs / (7 + k) + ys / (11 - k) + 0.9 * t * (k + 1) + k) for k in range(5))
        clip.append(np.clip(120 + 18 * wave[..., None] * (1.0, 1.1, 1.3), 0, 255).astype(np.uint8))
    return np.stack(clip)


def test_water_is_refused():
    with pytest.raises(Reject) as caught:
        MotionSegmenter(spec()).segment(water(), ["boat"])
    assert caught.value.reason in {"camera_unstable", "no_target", "motion_coherence", "stays_in_place", "not_distinct"}


def test_what_wags_in_place_is_refused():
    scene = drawn("cup_handheld")
    clip = scene.frames[[0, 1, 2, 3, 2, 1] * 3]
    with pytest.raises(Reject) as caught:
        MotionSegmenter(spec()).segment(clip, ["cup"])
    assert caught.value.reason in {"stays_in_place", "not_isolated", "no_target", "motion_coherence"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"min_area": 0.2}, "mask_too_small"),
        ({"max_area": 0.001}, "mask_too_large"),
        ({"min_temporal_iou": 1.0}, "temporal_iou"),
        ({"min_travel": 50.0}, "stays_in_place"),
    ],
)
def test_every_gate_gives_its_reason_value_and_limit(found, settings, reason):
    limit = f"{next(iter(settings.values())):g}"
    with pytest.raises(Reject) as caught:
        MotionSegmenter(spec(**settings))._check_limits(found["ball_static"].facts, boxed=False)
    assert caught.value.reason == reason
    assert limit in caught.value.detail


def test_a_camera_that_cannot_be_followed_is_refused():
    with pytest.raises(Reject) as caught:
        MotionSegmenter(spec(min_inliers=1.0)).segment(drawn("ball_static").frames, ["ball"])
    assert caught.value.reason == "camera_unstable"
    assert "at least 1" in caught.value.detail


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'min_area'"):
        MotionSegmenter(spec(min_aera=0.1))
