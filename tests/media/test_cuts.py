import numpy as np
import pytest

from ffpdata.core.errors import Reject, RetryableError
from ffpdata.media.cuts import find_shots
from ffpdata.media.probe import probe
from tests.media.bad_inputs import X264, ffmpeg, good_clip

SHOTS = {
    "pattern": "testsrc2=s=320x240:r=24:d={d}",
    "fractal": "mandelbrot=s=320x240:r=24:start_scale=0.5,trim=duration={d}",
    "waves": "gradients=s=320x240:r=24:d={d}:seed=3:speed=0.03:n=5",
}


def film(path, *shots: tuple[str, float], fps: float = 24, extra: str = "null"):
    """Join shots, each (name in SHOTS, or a colour, seconds)."""
    graph, names = "", ""
    for i, (name, seconds) in enumerate(shots):
        source = SHOTS.get(name, f"color={name}:s=320x240:r=24:d={{d}}").format(d=seconds)
        graph += f"{source},format=yuv420p,setsar=1,setpts=PTS-STARTPTS[v{i}];"
        names += f"[v{i}]"
    graph += f"{names}concat=n={len(shots)}:v=1:a=0,fps={fps},{extra}[out]"
    ffmpeg("-filter_complex", graph, "-map", "[out]", *X264, path)
    return path


def found(path, scan_seconds: float = 60) -> list[tuple[float, float]]:
    return find_shots(path, probe(path), scan_seconds=scan_seconds)


def close(shots: list[tuple[float, float]], expected: list[tuple[float, float]], tolerance: float = 0.09) -> bool:
    return len(shots) == len(expected) and np.allclose(shots, expected, atol=tolerance)


@pytest.mark.parametrize("fps", [24, 60, 12])
def test_cuts_are_found_and_lie_outside_the_shots(tmp_path, fps):
    path = film(tmp_path / "f.mp4", ("pattern", 1.5), ("fractal", 2), ("waves", 1), fps=fps)
    shots = found(path)
    assert close(shots, [(0, 1.5), (1.5, 3.5), (3.5, 4.5)], tolerance=0.17 if fps == 12 else 0.09)
    assert shots[0][1] < 1.5 < shots[1][0]
    assert shots[1][1] < 3.5 < shots[2][0]


def test_a_film_without_cuts_is_one_shot(tmp_path):
    path = good_clip(tmp_path / "f.mp4", seconds=3)
    assert close(found(path), [(0, 3)])


def test_a_fast_pan_and_a_zoom_are_no_cuts(tmp_path):
    from skimage import data

    from tests.media.pictures import write_pan

    path = write_pan(tmp_path / "f.mp4", data.coffee(), frames=60, step=11)
    assert close(found(path), [(0, 2.5)])


def test_black_white_and_plain_frames_are_in_no_shot(tmp_path):
    path = film(tmp_path / "f.mp4", ("pattern", 1.5), ("black", 0.5), ("fractal", 1.5), ("white", 0.5), ("waves", 1))
    assert close(found(path), [(0, 1.5), (2, 3.5), (4, 5)])
    assert found(film(tmp_path / "g.mp4", ("gray", 2))) == []


def test_a_fade_to_black_ends_a_shot_and_bars_do_not_hide_it(tmp_path):
    fades = "fade=out:st=1:d=0.5,pad=320:360:0:60"
    path = film(tmp_path / "f.mp4", ("pattern", 2), extra=fades)
    (start, end), *rest = found(path)
    assert rest == []
    assert start == 0
    assert 1.2 < end < 1.6


def test_only_the_beginning_is_looked_at(tmp_path):
    path = film(tmp_path / "f.mp4", ("pattern", 1.5), ("fractal", 2), ("waves", 1))
    assert close(found(path, scan_seconds=2.5), [(0, 1.5), (1.5, 2.5)])


def test_a_frame_of_1000_seconds_is_no_long_shot(bad_files):
    assert found(bad_files["frame_per_1000_s"].path) == [(0, 60)]


def test_portrait_films_and_late_pictures_are_timed_from_their_first_frame(tmp_path):
    path = film(tmp_path / "f.mp4", ("pattern", 1.5), ("fractal", 1), extra="scale=240:320")
    late = tmp_path / "late.mkv"
    ffmpeg("-itsoffset", 0.7, "-i", path, "-f", "lavfi", "-i", "sine=d=3", "-c:v", "copy", "-c:a", "aac", late)
    for file in (path, late):
        assert close(found(file), [(0, 1.5), (1.5, 2.5)])


def test_damage_is_a_reason_and_slowness_is_tried_again(bad_files, tmp_path):
    for name in ("corrupt_packets", "resolution_change"):
        with pytest.raises(Reject, match="corrupt"):
            found(bad_files[name].path)
    slow = good_clip(tmp_path / "f.mp4", size="1280x720", rate=60, seconds=2)
    with pytest.raises(RetryableError, match=r"stopped after 0\.05 s"):
        find_shots(slow, probe(slow), scan_seconds=60, timeout_s=0.05)
