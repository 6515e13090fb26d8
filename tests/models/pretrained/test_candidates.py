import numpy as np
import pytest

from ffpdata.models.pretrained.candidates import labels_of, named_candidates, salient_candidates, spoken, sure_boxes
from ffpdata.models.pretrained.detector import LABELS, Detection

SIZE = 720, 1280


def found(label, score, *box):
    return Detection(label, score, box)


@pytest.mark.parametrize(
    ("phrase", "label"),
    [("a blue cup", "mug"), ("two dogs", "dog"), ("Woman", "person"), ("pickup truck", "vehicle"), ("bike", "bicycle")],
)
def test_words_of_people_have_labels(phrase, label):
    assert label in labels_of(phrase)
    assert labels_of(phrase) <= set(LABELS)


@pytest.mark.parametrize("phrase", ["ball", "moving object", "cupboard", "motorcycle", ""])
def test_words_that_the_detector_does_not_know_have_none(phrase):
    assert labels_of(phrase) == frozenset()


def test_the_small_thing_comes_before_what_is_around_it():
    scene = [found("person", 0.6, 200, 50, 700, 700), found("coffee cup", 0.5, 600, 400, 760, 560)]
    names = [one.name for one in named_candidates(scene, np.ones((320, 320), np.float32), SIZE)]
    assert names == ["cup", "person"]


def test_furniture_specks_and_what_fills_the_frame_are_no_candidates():
    scene = [found("table", 0.9, 0, 300, 600, 700), found("person", 0.9, 5, 5, 30, 30)]
    scene += [found("car", 0.9, 0, 0, 1280, 720), found("car", 0.4, 100, 100, 700, 500)]
    (one,) = named_candidates(scene, np.ones((320, 320), np.float32), SIZE)
    assert one.box == (100, 100, 700, 500)


def test_what_is_salient_beside_the_named_things_is_a_candidate_without_a_name():
    saliency = np.zeros((320, 320), np.float32)
    saliency[100:140, 40:80] = 1
    saliency[50:200, 200:300] = 1
    person = found("person", 0.6, 780, 100, 1220, 460)
    (one,) = salient_candidates(saliency, sure_boxes([person]), SIZE)
    assert (one.label, one.name) == ("", "object")
    assert one.box == (160, 225, 320, 315)


@pytest.mark.parametrize(
    ("label", "score", "name"),
    [
        ("person", 0.4, "person"),
        ("mug", 0.5, "cup"),
        ("bicycle", 0.6, "bike"),  # a motorcycle has this label, too
        ("dog", 0.72, "dog"),
        ("cat", 0.57, "animal"),
        ("dog", 0.4, "object"),
        ("car", 0.45, "vehicle"),
        ("bottle", 0.59, "object"),
        ("box", 0.9, "object"),
        ("", 1.0, "object"),
    ],
)
def test_an_unsure_label_gets_a_wider_name_or_none(label, score, name):
    assert spoken(label, score) == name
