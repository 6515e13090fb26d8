"""Windows anywhere in a file hold exactly the frames of their time, whatever the container and the order of frames."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ffpdata.media import codec, ffmpeg
from ffpdata.media.conform import conform
from ffpdata.media.cuts import find_shots
from ffpdata.media.geometry import Geometry
from ffpdata.media.probe import probe
from ffpdata.media.window import Window, began_early_enough, entries, input_args, window_filter
from tests.media.numbered import HEIGHT, WIDTH, X264, frame, read_numbers, remux, write
from tests.shared import told_once

RATE, FRAMES = 25, 150
CLIP = Geometry(width=WIDTH, height=HEIGHT // 16 * 16, fps=RATE, frames=9)

ENCODED = {
    "b_frames": ("mp4", *X264, "-g", 40, "-bf", 3, "-x264-params", "b-pyramid=normal"),
    "open_gop": ("mp4", *X264, "-x264-params", "open-gop=1:keyint=40:bframes=3:scenecut=0"),
    "long_gop": ("mp4", *X264, "-g", 500),
    "refresh": ("mp4", *X264, "-x264-params", "intra-refresh=1:keyint=30:bframes=0"),
    "hevc": ("mp4", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params",
             "log-level=none:keyint=40:open-gop=1:bframes=3"),
    "vp9": ("webm", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8, "-g", 40, "-auto-alt-ref", 1,
            "-lag-in-frames", 16),
    "mpeg4": ("avi", "-c:v", "mpeg4", "-q:v", 3, "-bf", 2, "-g", 40),
}  # fmt: skip
"""Suffix and encoder of the clips that are encoded; the others are copies of them."""

COPIES = {
    "b_frames.mkv": (), "b_frames.mov": (), "b_frames.avi": (), "b_frames.ts": (), "open_gop.mkv": (),
    "open_gop.ts": (), "long_gop.ts": (), "refresh.mkv": (), "hevc.ts": (), "hevc.mkv": (),
    "b_frames.m2ts": ("-mpegts_m2ts_mode", 1),
    "b_frames.fragments.mp4": ("-movflags", "frag_keyframe+empty_moov"),
    "b_frames.late.mkv": ("-output_ts_offset", 500),
    "b_frames.without_cues.mkv": ("-live", 1),
    "b_frames.wraps.ts": ("-output_ts_offset", 2**33 / 90000 - 3),
    "b_frames.some_without_times.mkv": ("-output_ts_offset", -0.5, "-avoid_negative_ts", "disabled"),
    "b_frames.none_with_times.mkv": ("-output_ts_offset", -7, "-avoid_negative_ts", "disabled"),
}  # fmt: skip


@pytest.fixture(scope="module")
def clips() -> dict[str, Path]:
    def build(folder: Path) -> dict[str, Path]:
        made = {}
        for name, (suffix, *options) in ENCODED.items():
            made[f"{name}.{suffix}"] = write(folder / f"{name}.{suffix}", FRAMES, RATE, *options)
        for name, options in COPIES.items():
            made[name] = remux(made[f"{name.split('.')[0]}.mp4"], folder / name, *options)
        plain = made["b_frames.mp4"]
        made["b_frames.edit_list.mp4"] = remux(plain, folder / "edit.mp4", before=("-ss", 1.3))
        made["b_frames.joined.ts"] = folder / "joined.ts"
        again = remux(plain, folder / "again.ts", "-mpegts_flags", "+initial_discontinuity")
        made["b_frames.joined.ts"].write_bytes(made["b_frames.ts"].read_bytes() + again.read_bytes())
        return made

    return told_once("numbered", build)


def cut(path: Path, dst: Path, start_s: float, clip: Geometry = CLIP) -> tuple[list[int], float]:
    """Conform a window; return its frames' numbers and the start that is told."""
    done = conform(path, dst, clip, probe(path), start_s=start_s, min_side=16)
    return read_numbers(codec.read_video(dst)), done.start_s


@pytest.mark.parametrize("name", [*(f"{n}.{s}" for n, (s, *_) in ENCODED.items()), *COPIES, "b_frames.edit_list.mp4"])
def test_a_window_holds_the_frames_of_its_time(clips, tmp_path, name):
    first = 33 if "edit_list" in name else 0
    for start_s in (0.0, 0.7, 2.04, 3.913):
        number = math.ceil((start_s - 0.001) * RATE)
        found, told = cut(clips[name], tmp_path / "out.mp4", start_s)
        assert found == [first + number + n for n in range(CLIP.frames)], f"from {start_s} s on"
        assert told == pytest.approx(number / RATE, abs=0.001)


def test_times_that_begin_anew_inside_a_file_are_counted_on(clips, tmp_path):
    for start_s, number in ((5.8, 145), (6.4, 160), (9.0, 225)):
        found, told = cut(clips["b_frames.joined.ts"], tmp_path / "out.mp4", start_s)
        assert found == [(number + n) % FRAMES for n in range(CLIP.frames)]
        assert told == pytest.approx(start_s, abs=0.001)


def seek(path: Path, window: Window) -> tuple[bool, list[bytes]]:
    """Decode a window; return whether it is proven to be whole, and the times of the frames that were decoded."""
    info = probe(path)
    chain = f"{window_filter(info, window)},cropdetect"
    log = ffmpeg.run(
        ["-v", "level+info", *input_args(path, info, window), "-vf", chain, "-f", "null", "-"], timeout_s=20
    )
    return began_early_enough(log, info, window), [line for line in log.splitlines() if b"iskey" in line]


def test_a_seek_has_to_prove_that_it_began_early_enough(clips):
    for name in ("b_frames.mp4", "b_frames.late.mkv", "vp9.webm"):
        assert seek(clips[name], Window(3.0, 0.5, entry_s=2.0))[0]
        assert not seek(clips[name], Window(1.0, 0.5, entry_s=3.95))[0], "it begins behind the window"
    whole, [first] = seek(clips["refresh.mp4"], Window(4.3, 0.5, entry_s=4.1))
    assert (whole, b"type:P" in first) == (False, True), "the first frame needs others before it"


def test_only_what_is_needed_is_decoded_where_a_container_has_an_index(clips):
    for name in ("b_frames.mp4", "b_frames.mov", "b_frames.mkv", "vp9.webm", "hevc.mp4"):
        fast, sure = entries(probe(clips[name]), 4.5, 0.5)
        assert (fast.entry_s, sure.entry_s) == (3.5, 0)
        whole, [first] = seek(clips[name], fast)
        assert whole
        assert b"pts_time:0 " not in first
    for name in ("b_frames.ts", "b_frames.avi", "b_frames.none_with_times.mkv"):
        assert [way.entry_s for way in entries(probe(clips[name]), 4.5, 0.5)] == [0]
    assert [way.entry_s for way in entries(probe(clips["b_frames.mp4"]), 0.9, 0.5)] == [0]


def test_a_transport_stream_has_the_shots_of_its_twin(tmp_path):
    """The wanted shot does not begin at 0, and its first key frame lies behind its beginning."""
    film = [frame(number, scene=number // 30 % 2) for number in range(90)]
    mp4 = write(tmp_path / "a.mp4", film, RATE, *X264, "-g", 45, "-sc_threshold", 0, "-bf", 0)
    found = {}
    for path in (mp4, remux(mp4, tmp_path / "a.ts")):
        shots = find_shots(path, probe(path), scan_seconds=60)
        assert len(shots) == 3
        windows = [cut(path, tmp_path / "out.mp4", start) for start, _ in shots]
        found[path.suffix] = [numbers for numbers, _ in windows]
        assert [numbers[0] for numbers, _ in windows] == [round(told * RATE) for _, told in windows]
    assert found[".ts"] == found[".mp4"]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (24, [0, 2, 3, 5, 6, 8, 9, 11, 12]),
        (30, [0, 2, 4, 6, 8, 10, 12, 14, 15]),
        (48, [0, 3, 6, 9, 12, 15, 18, 21, 24]),
        (240, [0, 15, 30, 45, 60, 75, 90, 105, 120]),
    ],
)
def test_the_first_frame_is_the_source_s_first_at_any_rate(tmp_path, rate, expected):
    path = write(tmp_path / "in.mp4", 2 * rate, rate, *X264)
    clip = Geometry(width=WIDTH, height=64, fps=16, frames=9)
    assert cut(path, tmp_path / "out.mp4", 0, clip)[0] == expected
    found, told = cut(path, tmp_path / "out.mp4", 0.5, clip)
    assert found == [rate // 2 + number for number in expected]
    assert told == 0.5


def test_two_frames_in_quick_succession_do_not_cost_the_first(tmp_path):
    uneven = "select='lt(n,2)+not(mod(n,4))'"
    path = write(tmp_path / "in.mkv", 100, 100, "-vf", uneven, "-fps_mode", "passthrough", *X264)
    clip = Geometry(width=WIDTH, height=64, fps=16, frames=9)
    found = cut(path, tmp_path / "out.mp4", 0, clip)[0]
    assert found[0] == 0
    assert np.diff(found).min() > 0
