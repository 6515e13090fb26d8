from itertools import pairwise

import numpy as np
import pytest

from ffpdata.models.pretrained.detector import Detection, anchors, decode, overlap, share_inside, square_crops, suppress


def test_anchors_fill_the_six_maps():
    made = anchors()
    assert made.shape == (1917, 4)
    assert made[0] == pytest.approx([0.5 / 19, 0.5 / 19, 0.1, 0.1])
    assert made[1] == pytest.approx([0.5 / 19, 0.5 / 19, 0.2 / np.sqrt(2), 0.2 * np.sqrt(2)])
    assert made[3 * 361] == pytest.approx([0.05, 0.05, 0.35, 0.35])
    assert made[3 * 361 + 5] == pytest.approx([0.05, 0.05, *[np.sqrt(0.35 * 0.5)] * 2])
    assert made[-6:, :2] == pytest.approx(0.5)


def test_offsets_move_and_scale_an_anchor():
    encoded = np.zeros((1917, 4), np.float32)
    last = anchors()[-6]  # centre of the picture, side .95
    assert decode(encoded)[-6] == pytest.approx([0.5 - 0.475, 0.5 - 0.475, 0.5 + 0.475, 0.5 + 0.475])
    encoded[-6] = [10 * 0.1, 10 * -0.2, 5 * np.log(0.5), 5 * np.log(0.25)]  # y, x, height, width
    x, y = 0.5 - 0.2 * last[3], 0.5 + 0.1 * last[2]
    expected = [x - 0.95 / 8, y - 0.95 / 4, x + 0.95 / 8, y + 0.95 / 4]
    assert decode(encoded)[-6] == pytest.approx(expected, abs=1e-6)


def found(label, score, *box):
    return Detection(label, score, box)


def test_one_name_an_object():
    dog, cat = found("dog", 0.54, 0, 0, 100, 80), found("cat", 0.33, 4, 0, 100, 84)
    assert suppress([cat, dog]) == [dog]


def test_a_part_of_an_object_is_not_another_one_but_a_thing_before_it_is():
    person, head = found("person", 0.6, 0, 0, 100, 300), found("person", 0.4, 20, 0, 70, 60)
    cup = found("mug", 0.4, 30, 100, 60, 140)
    assert suppress([head, cup, person]) == [person, cup]


def test_neighbours_stay_apart():
    two = [found("person", 0.5, 0, 0, 100, 300), found("person", 0.4, 60, 0, 160, 300)]
    assert suppress(two[::-1]) == two


def test_overlaps():
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert share_inside((0, 0, 10, 10), (5, 0, 50, 50)) == pytest.approx(0.5)


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (1280, 720), (272, 640)])
def test_crops_cover_the_long_side_and_overlap(height, width):
    crops = square_crops(height, width)
    side, long = min(height, width), max(height, width)
    ends = sorted((c[0], c[2]) if width > height else (c[1], c[3]) for c in crops)
    assert ends[0][0] == 0
    assert ends[-1][1] == long
    assert all(b - a == side for a, b in ends)
    assert all(after[0] <= before[1] - side / 3 for before, after in pairwise(ends))


def test_a_square_needs_no_crops():
    assert square_crops(300, 300) == []
