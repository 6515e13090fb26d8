import numpy as np
import pytest

from ffpdata.models.classical.colour import NAMES, dominant_colour, to_lab, to_rgb

SEEN = {
    "red": [(220, 20, 30), (150, 10, 10), (255, 60, 50)],
    "orange": [(255, 128, 0), (240, 150, 40)],
    "yellow": [(250, 230, 20), (220, 200, 60)],
    "green": [(20, 150, 40), (120, 200, 60), (40, 80, 40)],
    "cyan": [(0, 200, 210), (40, 160, 160)],
    "blue": [(20, 40, 220), (90, 140, 230), (20, 30, 90)],
    "purple": [(130, 40, 180), (90, 20, 100)],
    "pink": [(255, 150, 180), (255, 80, 170)],
    "brown": [(120, 70, 30), (90, 60, 40), (160, 110, 70)],
    "black": [(5, 5, 5), (30, 28, 32)],
    "white": [(250, 250, 250), (225, 222, 215)],
    "grey": [(128, 128, 128), (90, 95, 92)],
}


@pytest.mark.parametrize(("name", "rgb"), [(n, c) for n, colours in SEEN.items() for c in colours])
def test_names_as_people_do(name, rgb):
    assert dominant_colour(np.full((10, 3), rgb, np.uint8))[0] == name


def test_majority_wins_and_lab_is_that_of_the_majority():
    pixels = np.array([[220, 20, 30]] * 60 + [[20, 40, 220]] * 40, np.uint8)
    name, lab = dominant_colour(pixels)
    assert name == "red"
    assert np.allclose(lab, to_lab(pixels[:1])[0], atol=0.01)


def test_every_name_is_reachable():
    assert set(SEEN) == set(NAMES)


def test_no_pixel_is_an_error():
    with pytest.raises(ValueError, match="at least one pixel"):
        dominant_colour(np.zeros((0, 3), np.uint8))


def test_lab_round_trip():
    rgb = np.random.default_rng(0).integers(0, 256, (500, 3), np.uint8)
    assert np.abs(to_rgb(to_lab(rgb)).astype(int) - rgb).max() <= 1
