import numpy as np
import pytest

from ffpdata.models.classical.segmenter.pixel_evidence import Flows
from ffpdata.models.pretrained.detector import Detection
from ffpdata.models.pretrained.key_frames import Outlines
from ffpdata.models.pretrained.outline_facts import (
    agreed_name,
    contour_contrast,
    found_facts,
    least_share,
    thick_change,
    thick_flicker,
)
from tests.models.classical.toys import texture

GREY, RED = (120, 120, 120), (200, 40, 40)


def disc(radius=20.0, x=64, y=48):
    ys, xs = np.mgrid[:96, :128]
    return (xs - x) ** 2 + (ys - y) ** 2 <= radius * radius


def picture(mask):
    return np.where(mask[..., None], RED, GREY).astype(np.uint8)


def test_a_contour_on_the_object_has_contrast_and_one_that_takes_ground_has_less():
    image = picture(disc())
    right = contour_contrast(image, disc())
    ground = disc()
    ground[48:90, 40:90] = True
    assert right == 1.0
    assert contour_contrast(image, ground) < 0.7


def test_a_contour_along_the_frame_does_not_count():
    image = picture(np.ones((96, 128), bool))
    assert contour_contrast(image, np.ones((96, 128), bool)) == 1.0


def test_the_frame_that_loses_half_of_the_object_is_found():
    masks = np.stack([disc()] * 17)
    assert least_share(masks) == 1.0
    masks[7, :48] = False
    assert least_share(masks) == pytest.approx(0.5, abs=0.05)


def test_an_object_that_leaves_the_frame_has_not_lost_a_half():
    masks = np.stack([disc(x=64 - 7 * t) for t in range(10)])
    assert masks[-1].any()
    assert least_share(masks) == 1.0


def test_a_limb_is_no_thick_change_but_a_neighbour_is():
    limb, neighbour = disc(), disc()
    limb[46:50, 80:110] = True
    neighbour |= disc(10, x=92)
    assert thick_change(disc(), limb) == 0
    assert 0.1 < thick_change(disc(), neighbour) < 0.3
    assert 0.1 < thick_change(neighbour, disc()) < 0.3


def test_a_neighbour_that_comes_and_goes_flickers():
    flows = Flows(np.stack([texture(96, 128, 0)] * 6))
    masks = np.stack([disc()] * 6)
    assert thick_flicker(flows, masks) == 0
    masks[1::2] |= disc(10, x=92)
    assert thick_flicker(flows, masks) > 0.1
    assert thick_flicker(flows, np.zeros_like(masks)) == 0


def test_how_surely_a_named_object_was_found():
    sure, unsure = np.where(disc(), 1.0, -1.0), np.where(disc(), 0.2, -1.0)
    outlines = Outlines({0: sure, 8: unsure}, {0: Detection("dog", 0.6, (0, 0, 1, 1))})
    facts = found_facts(outlines, named=True)
    assert facts == {"unsure": pytest.approx(0.5), "outlined": 1.0, "redetected": 0.5, "name_score": 0.6}
    missed = Outlines({0: sure}, missed={8, 16, 24})
    assert found_facts(missed, named=False)["outlined"] == 0.25
    lost = Outlines({0: sure, 8: np.full_like(sure, -1.0)})
    assert found_facts(lost, named=False)["outlined"] == 0.5
    assert set(found_facts(outlines, named=False)) == {"unsure", "outlined"}


class Found:
    """Detections in the key frames of a clip, as `KeyFrames` gives them."""

    indices, scale = (0, 4, 8, 12), 0.5

    def __init__(self, *labels):
        self.labels = dict(zip(self.indices, labels, strict=True))

    def detections(self, t):
        far = Detection("person", 0.9, (0, 0, 20, 20))
        return [far, Detection(self.labels[t], 0.5, (88, 56, 168, 136))] if self.labels[t] else [far]


def test_what_moves_has_the_name_that_most_key_frames_give_it():
    masks = np.stack([disc()] * 13)
    label, facts = agreed_name(masks, Found("dog", "cat", "dog", ""))
    assert label == "dog"
    assert facts["redetected"] == 0.75
    assert facts["box_fit"] > 0.9


def test_what_is_detected_elsewhere_gives_no_name():
    assert agreed_name(np.stack([disc()] * 13), Found("", "", "", "")) == (
        "",
        {"redetected": 0.0, "box_fit": 0.0, "name_score": 0.0},
    )
