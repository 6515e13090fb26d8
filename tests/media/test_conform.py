from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.errors import Reject, RetryableError
from ffpdata.media import codec
from ffpdata.media.conform import Crop, conform
from ffpdata.media.geometry import Geometry
from ffpdata.media.probe import probe
from tests.media.bad_inputs import X264, ffmpeg, good_clip, hdr, pattern

pytestmark = pytest.mark.slow

SMALL = Geometry(width=160, height=96, fps=16, frames=17)


def conformed(src: Path, dst: Path, geometry: Geometry = SMALL, **how) -> np.ndarray:
    conform(src, dst, geometry, probe(src), **how)
    return codec.read_video(dst)


def counting_clip(path: Path, rate: float, frames: int, *options: object) -> Path:
    """A clip whose frame n is plain gray of level 20 + 3n: it tells which source frame became which."""
    gray = f"color=black:s=320x240:r={rate}:d={frames / rate},format=gray,geq=lum='20+3*N'"
    ffmpeg("-f", "lavfi", "-i", gray, "-vf", "format=yuv420p", "-c:v", "libx264", "-qp", 4, *options, path)
    return path


def numbers(frames: np.ndarray) -> np.ndarray:
    return ((frames.mean((1, 2, 3)) - 20) / 3).round().astype(int)


def test_every_odd_file_becomes_exactly_the_geometry(odd_files, tmp_path):
    plain = conformed(odd_files["plain"], tmp_path / "plain.mp4").astype(float)
    for name, path in odd_files.items():
        dst = tmp_path / "out.mp4"
        frames = conformed(path, dst)
        portrait = name in {"portrait", "rotated"}
        assert frames.shape == ((17, 160, 96, 3) if portrait else (17, 96, 160, 3)), name
        assert codec.inspect(dst) == (17, *frames.shape[2:0:-1], 16.0, ("bt709", "bt709", "bt709", "tv")), name
        if not portrait and name not in {"anamorphic", "letterbox"}:  # the same picture, maybe a frame off
            assert np.abs(frames - plain).mean() < (20 if name in {"hdr10", "hlg"} else 6), name
            assert np.abs((frames - plain).mean((0, 1, 2))).max() < (6 if name in {"hdr10", "hlg"} else 1.5), name
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


def test_every_bad_file_ends_with_its_reason_and_without_a_file(bad_files, tmp_path):
    wrong = {}
    for name, bad in bad_files.items():
        if bad.at != "conform":
            continue
        try:
            conform(bad.path, tmp_path / "out.mp4", SMALL, probe(bad.path))
            found = "accepted"
        except Reject as reject:
            found = reject.reason
        if found not in bad.reasons:
            wrong[name] = f"{found}, expected {sorted(bad.reasons)}"
    assert wrong == {}
    assert list(tmp_path.iterdir()) == []


def test_the_same_source_gives_the_same_bytes(odd_files, tmp_path):
    for name in ("a", "b"):
        conformed(odd_files["variable_rate"], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("start_s", "first"), [(0.0, 0), (0.5, 12), (1.25, 30)])
def test_the_clip_starts_where_it_is_told_to(tmp_path, start_s, first):
    src = counting_clip(tmp_path / "src.mp4", 24, 60, "-g", 25, "-bf", 3)
    geometry = Geometry(width=160, height=96, fps=12, frames=13)
    assert numbers(conformed(src, tmp_path / "out.mp4", geometry, start_s=start_s)).tolist() == [
        first + 2 * n for n in range(13)
    ]


def test_the_start_counts_from_the_first_frame_where_sound_begins_earlier(tmp_path):
    picture = counting_clip(tmp_path / "picture.mp4", 24, 60)
    src = tmp_path / "src.mkv"
    ffmpeg("-itsoffset", 0.5, "-i", picture, "-f", "lavfi", "-i", "sine=d=3", "-c:v", "copy", "-c:a", "aac", src)
    geometry = Geometry(width=160, height=96, fps=12, frames=13)
    for start_s, first in ((0, 0), (1, 24)):
        assert numbers(conformed(src, tmp_path / "out.mp4", geometry, start_s=start_s))[0] == first


def test_a_faster_target_repeats_frames_evenly_and_no_more(tmp_path):
    src = counting_clip(tmp_path / "src.mp4", 12, 30)
    steps = np.diff(numbers(conformed(src, tmp_path / "out.mp4")))
    assert set(steps.tolist()) == {0, 1}
    assert (steps == 0).sum() == 4


def test_a_clip_of_exactly_the_length_is_enough_and_a_shorter_one_names_what_is_missing(tmp_path):
    exact = good_clip(tmp_path / "exact.mp4", rate=16, seconds=17 / 16)
    assert len(conformed(exact, tmp_path / "out.mp4")) == 17
    with pytest.raises(Reject, match=r"wanted 17 frames = 1.06 s at 16 fps from 0.5 s on, found 9") as caught:
        conformed(exact, tmp_path / "short.mp4", start_s=0.5)
    assert caught.value.reason == "too_short"
    with pytest.raises(Reject, match=r"the source has 1.06 s"):
        conformed(exact, tmp_path / "short.mp4", start_s=60)
    assert not (tmp_path / "short.mp4").exists()


def test_a_rejected_clip_leaves_the_older_file_alone(tmp_path, bad_files):
    dst = tmp_path / "out.mp4"
    dst.write_bytes(b"older")
    with pytest.raises(Reject, match="corrupt"):
        conformed(bad_files["corrupt_packets"].path, dst)
    assert dst.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [dst]


def test_the_limits_are_arguments(tmp_path):
    small = good_clip(tmp_path / "small.mp4", size="160x96")
    slow = good_clip(tmp_path / "slow.mp4", rate=5, seconds=3)
    with pytest.raises(Reject, match="160x96, the shorter side must have 240"):
        conformed(small, tmp_path / "out.mp4")
    assert len(conformed(small, tmp_path / "out.mp4", min_side=96)) == 17
    assert len(conformed(slow, tmp_path / "out.mp4", min_fps=4)) == 17
    with pytest.raises(Reject, match="fps_too_high"):
        conformed(small, tmp_path / "out.mp4", min_side=96, max_fps=20)


def test_a_still_has_no_frames_to_show(bad_files, tmp_path):
    with pytest.raises(Reject, match="give it as an image"):
        conformed(bad_files["one_frame"].path, tmp_path / "out.mp4")


@pytest.mark.parametrize("bars", ["letter", "pillar", "both"])
def test_black_bars_are_cut_off(tmp_path, bars):
    pad = {"letter": "pad=640:480:0:60", "pillar": "pad=960:360:160:0", "both": "pad=960:480:160:60"}[bars]
    src = tmp_path / "src.mp4"
    ffmpeg(*pattern("640x360"), "-vf", f"eq=brightness=0.1,{pad}", *X264, src)
    plain = tmp_path / "plain.mp4"
    ffmpeg(*pattern("640x360"), "-vf", "eq=brightness=0.1", *X264, plain)
    found = conform(src, tmp_path / "out.mp4", SMALL, probe(src))
    assert found.crop is not None
    x, y = {"letter": (0, 62), "pillar": (162, 2), "both": (162, 62)}[bars]
    assert abs(found.crop.x - x) <= 2
    assert abs(found.crop.y - y) <= 2
    difference = codec.read_video(tmp_path / "out.mp4").astype(float) - conformed(plain, tmp_path / "p.mp4")
    assert np.abs(difference).mean() < 12
    assert conform(src, tmp_path / "out.mp4", SMALL, probe(src), crop_bars=False).crop is None


def test_a_portrait_film_in_a_landscape_frame_becomes_portrait(tmp_path):
    src = tmp_path / "src.mp4"
    ffmpeg(*pattern("270x480"), "-vf", "pad=854:480:292:0", *X264, src)
    found = conform(src, tmp_path / "out.mp4", SMALL, probe(src))
    assert (found.width, found.height) == (96, 160)


def test_bars_that_come_and_go_or_are_unequal_stay(tmp_path):
    src = tmp_path / "src.mp4"
    ffmpeg(*pattern("640x480"), "-vf", "drawbox=h=100:color=black:t=fill:enable='lt(t,0.6)'", *X264, src)
    assert conform(src, tmp_path / "out.mp4", SMALL, probe(src)).crop is None
    ffmpeg(*pattern("640x480"), "-vf", "drawbox=y=ih-120:h=120:color=black:t=fill", *X264, src)
    assert conform(src, tmp_path / "out.mp4", SMALL, probe(src)).crop is None


def test_bars_are_measured_in_displayed_pixels(tmp_path):
    src = tmp_path / "src.mp4"
    ffmpeg(*pattern("320x360"), "-vf", "pad=320:480:0:60,setsar=2", *X264, src)
    assert conform(src, tmp_path / "out.mp4", SMALL, probe(src)).crop == Crop(640, 356, 0, 62)
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", 90, "-i", src, "-c", "copy", turned)
    assert conform(turned, tmp_path / "out.mp4", SMALL, probe(turned)).crop == Crop(356, 640, 62, 0)


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_mapped_to_the_sdr_it_was_made_from(tmp_path, transfer):
    """Diffuse colours come back as they were; only what is near white or out of gamut is bent."""
    bars = ("-f", "lavfi", "-i", "smptebars=s=320x240:r=24:d=1.2")
    plain = tmp_path / "plain.mp4"
    ffmpeg(*bars, "-vf", "scale=flags=accurate_rnd+full_chroma_int:out_color_matrix=bt709,setparams=colorspace=bt709",
           *X264, plain)  # fmt: skip
    src = hdr(tmp_path / "hdr.mp4", transfer, bars)
    expected, found = conformed(plain, tmp_path / "a.mp4"), conformed(src, tmp_path / "b.mp4")
    column = slice(11, None, 23)  # the middle of each bar
    assert np.abs(found[8, 30, column].astype(int) - expected[8, 30, column]).max() < 20


def test_untagged_clips_are_taken_for_what_players_take_them_for(tmp_path):
    """Small ones BT.601, HD ones BT.709."""
    for size, matrix in (("320x240", "smpte170m"), ("1280x720", "bt709")):
        src = tmp_path / "src.mp4"
        colour = ("-f", "lavfi", "-i", f"color=0xC83228:s={size}:r=24:d=1.2")
        convert = f"format=gbrp,scale=flags=accurate_rnd+full_chroma_int:out_color_matrix={matrix}"
        ffmpeg(*colour, "-vf", f"{convert},format=yuv420p,setparams=colorspace=unknown", *X264, src)
        assert probe(src).color_space is None
        assert np.abs(conformed(src, tmp_path / "out.mp4") - np.array([0xC8, 0x32, 0x28])).max() <= 3


def test_colours_do_not_move_sideways(tmp_path):
    """RGB sources have no chroma position: ours must be where H.264 has it."""
    ramp = "geq=r='8+1.5*X':g=60:b='247-1.5*X'"
    source = ("-f", "lavfi", "-i", f"color=black:s=160x96:r=24:d=1.2,format=gbrp,{ramp}")
    ffmpeg(*source, "-c:v", "libx264rgb", "-qp", 0, "-pix_fmt", "rgb24", tmp_path / "src.mp4")
    frames = conformed(tmp_path / "src.mp4", tmp_path / "out.mp4", min_side=96)[8].astype(float)
    expected = 8 + 1.5 * np.arange(160)
    assert (
        abs((frames[..., 0] - expected)[8:-8, 8:-8].mean() - (frames[..., 2] - 255 + expected)[8:-8, 8:-8].mean()) < 0.6
    )


def test_the_time_limit_ends_ffmpeg_and_leaves_nothing(tmp_path):
    src = good_clip(tmp_path / "src.mp4", size="1280x720", rate=60, seconds=2)
    with pytest.raises(RetryableError, match=r"stopped after 0\.05 s"):
        conform(src, tmp_path / "out.mp4", Geometry(frames=17), probe(src), timeout_s=0.05)
    assert list(tmp_path.iterdir()) == [src]


def test_trouble_with_the_target_is_no_fault_of_the_clip(tmp_path, odd_files):
    with pytest.raises(RetryableError, match="nowhere"):
        conformed(odd_files["plain"], tmp_path / "nowhere" / "out.mp4")


def test_a_file_that_vanished_after_the_probe_is_missing(tmp_path):
    src = good_clip(tmp_path / "src.mp4")
    found = probe(src)
    src.unlink()
    with pytest.raises(Reject, match="missing_file"):
        conform(src, tmp_path / "out.mp4", SMALL, found)
