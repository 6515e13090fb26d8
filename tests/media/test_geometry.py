from fractions import Fraction

import pytest
from pydantic import ValidationError

from ffpdata.core.errors import ConfigError
from ffpdata.media.geometry import Geometry, as_rate, check_clip


def test_the_default_is_the_papers_size_and_length():
    geometry = Geometry()
    assert (geometry.width, geometry.height, geometry.frames, geometry.fps) == (1280, 720, 81, 16)
    assert geometry.seconds == pytest.approx(5.0625)


def test_portrait_sources_get_the_turned_size():
    geometry = Geometry(width=160, height=96, frames=17)
    assert geometry.size_for(1920, 1080) == (160, 96)
    assert geometry.size_for(1080, 1920) == (96, 160)
    assert geometry.size_for(500, 500) == (160, 96)


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        ({"width": 1000}, "not 1000 x 720: try 992 x 720"),
        ({"height": 250}, "not 1280 x 250: try 1280 x 256"),
        ({"width": 96, "height": 160}, "landscape"),
        ({"frames": 80}, "not 80: set clip.frames to 77 or 81"),
        ({"frames": 121}, "not 121: set clip.frames to 81"),
        ({"fps": 0}, "greater than 0"),
        ({"length": 3}, "Extra inputs"),
    ],
)
def test_what_the_video_models_cannot_take_is_refused_with_a_remedy(values, remedy):
    with pytest.raises(ValidationError, match=remedy):
        Geometry(**values)


@pytest.mark.parametrize("size", [(81, 720, 1280), (81, 1280, 720), (1, 16, 16), (33, 192, 320), (77, 480, 832)])
def test_sizes_that_the_model_takes(size):
    check_clip(*size, model="Vace")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((81, 72, 128), "not 128 x 72: try 128 x 64"),
        ((81, 720, 1000), "not 1000 x 720: try 992 x 720"),
        ((80, 64, 64), "not 80: set clip.frames to 77 or 81"),
        ((3, 64, 64), "set clip.frames to 1 or 5"),
        ((0, 64, 64), "set clip.frames to 1"),
        ((85, 64, 64), "at most 81 frames"),
    ],
)
def test_sizes_that_would_be_rounded_in_silence(size, said):
    with pytest.raises(ConfigError, match=said):
        check_clip(*size, model="Vace")


def test_rates_are_written_as_containers_do():
    assert as_rate(16) == 16
    assert as_rate(29.97002997) == Fraction(30000, 1001)
    assert as_rate(23.976023976) == Fraction(24000, 1001)
    assert as_rate(12.5) == Fraction(25, 2)
