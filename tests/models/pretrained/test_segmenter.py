import cv2
import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, Reject
from ffpdata.media import masks as geometry
from ffpdata.models.pretrained.segmenter import DetectionSegmenter
from tests.models.classical.sampled import drawn, spec

FRAMES = 17
SIZE = {"width": 512, "height": 288, "frames": FRAMES}


@pytest.fixture(scope="module")
def segmenter(packaged_models):
    return DetectionSegmenter(spec())


@pytest.fixture(scope="module")
def cup(segmenter):
    return segmenter.segment(drawn("cup_handheld", **SIZE).frames, ["moving object"])


def test_a_short_clip_of_a_cup_is_named_and_outlined(cup):
    assert cup.phrase == "cup"
    assert cup.masks.shape == (FRAMES, 288, 512)
    assert geometry.iou(cup.masks, drawn("cup_handheld", **SIZE).masks).min() > 0.8
    assert cup.facts["redetected"] >= 0.6
    assert cup.facts["travel"] > 1.2
    assert all(isinstance(value, float) for value in cup.facts.values())


def test_an_object_that_stands_still_is_outlined(segmenter):
    scene = drawn("cup_handheld", **SIZE)
    rng = np.random.default_rng(0)
    still = np.clip(scene.frames[:1] + rng.normal(0, 1.5, (9, 288, 512, 3)), 0, 255).astype(np.uint8)
    answer = segmenter.segment(still, ["cup"])
    assert answer.facts["travel"] < 0.2
    assert (
        geometry.iou(answer.masks, np.stack([scene.masks[0]] * 9)).min() > 0.75
    )  # the saucer is the cup's in the truth alone


def test_a_word_without_a_class_takes_what_stands_out(segmenter):
    scene = drawn("ball_static", **SIZE)
    answer = segmenter.segment(scene.frames, ["ball"])
    assert answer.phrase == "ball"
    assert geometry.iou(answer.masks, scene.masks).mean() > 0.85


def test_a_users_box_is_segmented(segmenter):
    scene = drawn("ball_static", **SIZE)
    box = tuple(geometry.bounding_boxes(geometry.box(scene.masks, 0.05, 1))[0].tolist())
    answer = segmenter.segment(scene.frames[:9], ["ball"], box)
    assert geometry.iou(answer.masks, scene.masks[:9]).mean() > 0.85


def test_the_same_masks_whatever_the_threads(segmenter, cup):
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1 if before != 1 else 3)
        again = segmenter.segment(drawn("cup_handheld", **SIZE).frames, ["moving object"])
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(again.masks, cup.masks)
    assert again.facts == cup.facts


def test_a_clip_without_anything_to_edit_gives_nothing(segmenter):
    gravel = drawn("coin_pan", **SIZE).background[:9]
    with pytest.raises(Reject) as caught:
        segmenter.segment(gravel, ["moving object"])
    assert caught.value.reason == "no_target"


def test_a_limit_rejects_with_its_value(packaged_models):
    with pytest.raises(Reject) as caught:
        DetectionSegmenter(spec(min_name_score=0.99)).segment(drawn("cup_handheld", **SIZE).frames[:5], ["cup"])
    assert caught.value.reason == "name_unsure"
    assert "at least 0.99" in caught.value.detail


def test_unknown_settings_are_refused(packaged_models):
    with pytest.raises(ConfigError, match="did you mean 'max_holes'"):
        DetectionSegmenter(spec(max_hole=0.1))
