from fractions import Fraction

import pytest
from pydantic import ValidationError

from ffpdata.media.geometry import Geometry, as_rate


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
        ({"width": 1000}, "use 992 or 1008"),
        ({"height": 250}, "use 240 or 256"),
        ({"width": 96, "height": 160}, "landscape"),
        ({"frames": 80}, "use 77"),
        ({"frames": 121}, "use 81"),
        ({"fps": 0}, "greater than 0"),
        ({"length": 3}, "Extra inputs"),
    ],
)
def test_what_the_video_models_cannot_take_is_refused_with_a_remedy(values, remedy):
    with pytest.raises(ValidationError, match=remedy):
        Geometry(**values)


def test_rates_are_written_as_containers_do():
    assert as_rate(16) == 16
    assert as_rate(29.97002997) == Fraction(30000, 1001)
    assert as_rate(23.976023976) == Fraction(24000, 1001)
    assert as_rate(12.5) == Fraction(25, 2)
