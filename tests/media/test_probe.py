import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ffpdata.core.errors import FatalError, FfpdataError, Reject, RetryableError
from ffpdata.media import _probe_worker
from ffpdata.media.probe import check_regular_file, probe
from tests.media.bad_inputs import X264, ffmpeg, good_clip, pattern
from tests.media.numbered import remux


def test_every_bad_file_ends_with_its_reason_in_time(bad_files):
    wrong = {}
    for name, bad in bad_files.items():
        started = time.monotonic()
        try:
            probe(bad.path, timeout_s=20)
            found = "accepted"
        except Reject as reject:
            found = reject.reason if reject.detail else f"{reject.reason} without a word"
        expected = {"accepted"} if bad.at == "conform" else bad.reasons
        if found not in expected:
            wrong[name] = f"{found}, expected {sorted(expected)}"
        assert time.monotonic() - started < 10, f"{name} took too long"
    assert wrong == {}


def test_odd_files_are_accepted_with_what_they_are(odd_files):
    found = {name: probe(path) for name, path in odd_files.items()}
    sizes = {name: (p.width, p.height) for name, p in found.items()}
    assert sizes["plain"] == (320, 240)
    assert sizes["portrait"] == sizes["rotated"] == (240, 320)
    assert sizes["odd_size"] == (321, 241)
    assert sizes["anamorphic"] == (427, 240)
    assert found["rotated"].rotation == 90
    assert found["anamorphic"].sar == pytest.approx(4 / 3)
    rates = {name: round(found[name].fps, 3) for name in ("plain", "sixty", "ntsc", "interlaced", "transport", "av1")}
    assert rates == {"plain": 24, "sixty": 60, "ntsc": 29.97, "interlaced": 25, "transport": 24, "av1": 24}
    assert {found[n].codec for n in ("av1", "vp9", "hevc", "prores", "mpeg4_avi")} == {
        "av1", "vp9", "hevc", "prores", "mpeg4",
    }  # fmt: skip
    assert {name for name, p in found.items() if p.is_hdr} == {"hdr10", "hlg"}
    assert (found["hdr10"].color_transfer, found["hlg"].color_transfer) == ("smpte2084", "arib-std-b67")
    assert {name for name, p in found.items() if p.interlaced} == {"interlaced"}
    assert {name for name, p in found.items() if p.dark_edges} == {"letterbox"}
    assert found["ten_bit"].pix_fmt == "yuv420p10le"
    assert found["shown_after_sound"].start_offset_s == pytest.approx(0.5, abs=0.01)
    assert not any(p.is_still for p in found.values())
    assert all(p.duration_s == pytest.approx(1.5, abs=0.05) for p in found.values())
    assert all(p.frames == pytest.approx(p.fps * 1.5, abs=2) for p in found.values())


def test_one_frame_is_a_still(bad_files):
    assert probe(bad_files["one_frame"].path).is_still
    assert probe(bad_files["frozen"].path).max_gap_s > 1


def test_a_reason_names_the_value_the_limit_and_the_remedy(bad_files):
    with pytest.raises(Reject, match=r"codec mpeg2video is none of h264.*convert"):
        probe(bad_files["mpeg2"].path)
    with pytest.raises(Reject, match="named pipe: give a video"):
        probe(bad_files["fifo"].path)
    with pytest.raises(Reject, match="36000000"):
        probe(bad_files["16000x16000"].path)


def test_texts_reach_neither_the_network_nor_other_files(tmp_path):
    """A listener and a named pipe stand where the texts point to: nobody may come."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)
    visitors: list[object] = []
    done = threading.Event()

    def listen() -> None:
        while not done.is_set():
            try:
                visitors.append(server.accept())
            except TimeoutError:
                continue

    thread = threading.Thread(target=listen)
    thread.start()
    trap = tmp_path / "trap.ts"
    os.mkfifo(trap)
    url = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
    texts = [f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n" for target in (url, trap)]
    texts += [f"ffconcat version 1.0\nfile '{target}'\n" for target in (url, trap)]
    try:
        for number, text in enumerate(texts):
            path = tmp_path / f"{number}.mp4"
            path.write_text(text)
            with pytest.raises(Reject) as caught:  # opening the trap would block until the time limit: another error
                probe(path, timeout_s=5)
            assert caught.value.reason in {"container_not_allowed", "not_a_video"}
    finally:
        done.set()
        thread.join()
        server.close()
    assert visitors == []


def test_names_are_names_whatever_they_look_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = good_clip(tmp_path / "good.mp4", seconds=0.3).read_bytes()
    for name in ("-i", "pipe:0", "concat:good.mp4|good.mp4", "%03d.mp4", "http:", "a\nb.mp4", "é ü.mp4", "x.txt"):
        Path(name).write_bytes(good)
        assert probe(Path(name)).width == 320
    for name in ("concat:good.mp4", "file:good.mp4", "x\0y.mp4"):
        with pytest.raises(Reject, match="missing_file"):
            probe(Path(name))


def test_names_that_are_no_utf8_are_opened(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    path.write_bytes(good_clip(tmp_path / "good.mp4", seconds=0.3).read_bytes())
    assert probe(path).width == 320


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_file_without_permission_is_unreadable(tmp_path):
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    if os.geteuid():
        with pytest.raises(Reject, match="unreadable"):
            check_regular_file(path)
        return
    script = (  # root reads everything: ask as nobody
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from ffpdata.core.errors import Reject\nfrom ffpdata.media.probe import check_regular_file\n"
        "os.setuid(65534)\n"
        "try: check_regular_file(sys.argv[1])\nexcept Reject as reject: print(reject.reason)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", script, path, root], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "unreadable"


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Put another program in the place of the child process."""

    def place(code: str) -> None:
        script = tmp_path / "worker.py"
        script.write_text(code)
        monkeypatch.setattr(_probe_worker, "__file__", str(script))

    return place


def test_a_hang_ends_at_the_limit_and_leaves_nothing_running(tmp_path, worker):
    mark = tmp_path / "pid"
    worker(f"import os, time\nopen({str(mark)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    clip = good_clip(tmp_path / "c.mp4", seconds=0.3)
    started = time.monotonic()
    with pytest.raises(RetryableError, match=r"more than 1 s"):
        probe(clip, timeout_s=1)
    assert time.monotonic() - started < 5
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_a_crash_of_the_decoder_is_a_corrupt_file(tmp_path, worker):
    clip = good_clip(tmp_path / "c.mp4", seconds=0.3)
    worker("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(Reject, match=f"corrupt: the decoder crashed.*signal {signal.SIGSEGV.value}"):
        probe(clip)
    worker("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(RetryableError, match="killed from outside"):
        probe(clip)
    worker("import nothing_like_this")
    with pytest.raises(FatalError, match="nothing_like_this"):
        probe(clip)
    worker("raise ValueError('unforeseen')")
    with pytest.raises(FfpdataError, match="unforeseen") as caught:
        probe(clip)
    assert not isinstance(caught.value, FatalError)


def test_the_film_is_found_behind_a_cover_picture(tmp_path):
    ffmpeg(*pattern(seconds=0.1), "-frames:v", 1, tmp_path / "cover.jpg")
    ffmpeg(
        "-i", tmp_path / "cover.jpg", *pattern(seconds=0.5), "-map", 0, "-map", 1, "-c:v:0", "mjpeg",
        "-c:v:1", "libx264", "-pix_fmt:v:1", "yuv420p", "-disposition:v:0", "attached_pic", tmp_path / "c.mp4",
    )  # fmt: skip
    found = probe(tmp_path / "c.mp4")
    assert (found.codec, found.frames) == ("h264", 12)


@pytest.mark.parametrize("beside", ["preview", "cover"])
def test_the_film_is_found_behind_another_stream_of_pictures(tmp_path, beside):
    """A small preview of a frame a second, and a large cover that no flag tells from a film."""
    size, rate, frames = {"preview": ("160x90", 2, 4), "cover": ("1280x960", 24, 1)}[beside]
    ffmpeg(*pattern(size, rate=rate, seconds=2), "-frames:v", frames, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p",
           tmp_path / "first.mov")  # fmt: skip
    film = good_clip(tmp_path / "film.mp4", seconds=2)
    ffmpeg("-i", tmp_path / "first.mov", "-i", film, "-map", 0, "-map", 1, "-c", "copy", tmp_path / "c.mov")
    found = probe(tmp_path / "c.mov")
    assert (found.stream_index, found.codec, found.width, found.fps, found.frames) == (1, "h264", 320, 24, 48)


def test_the_first_of_two_films_of_one_size_is_taken(tmp_path):
    films = (*pattern(rate=24, seconds=1), *pattern(rate=30, seconds=1), "-map", 0, "-map", 1)
    ffmpeg(*films, *X264, tmp_path / "c.mkv")
    assert (probe(tmp_path / "c.mkv").stream_index, probe(tmp_path / "c.mkv").fps) == (0, 24)


def test_one_late_frame_does_not_lower_the_rate(tmp_path):
    late = "setpts=PTS+gte(N\\,47)*60/TB"
    ffmpeg(*pattern(seconds=2), "-vf", late, "-fps_mode", "passthrough", *X264, tmp_path / "c.mp4")
    found = probe(tmp_path / "c.mp4")
    assert found.fps == pytest.approx(24, rel=0.01)
    assert found.max_gap_s > 59
    assert found.duration_s > 60


def test_packets_without_times_are_counted_at_the_rate_of_the_header(tmp_path):
    timed = good_clip(tmp_path / "timed.mp4", rate=25, seconds=2)
    path = remux(timed, tmp_path / "c.mkv", "-output_ts_offset", -7, "-avoid_negative_ts", "disabled")
    found = probe(path)
    assert (found.fps, found.frames, found.duration_s, found.origin_s) == (25, 50, 2, None)
    assert not found.is_still


def test_without_times_and_without_a_rate_a_file_is_refused_by_that(tmp_path):
    ffmpeg(*pattern(), "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", tmp_path / "timed.mkv")
    early = ("-output_ts_offset", -7, "-avoid_negative_ts", "disabled")
    data = remux(tmp_path / "timed.mkv", tmp_path / "c.mkv", *early).read_bytes()
    at = data.index(b"\x23\xe3\x83\x84")  # the default duration of a frame: an empty element takes its place
    (tmp_path / "c.mkv").write_bytes(data[:at] + b"\xec\x86" + data[at + 2 :])
    with pytest.raises(Reject, match="no_times: neither its packets nor its header"):
        probe(tmp_path / "c.mkv")


def test_an_animation_is_a_clip_and_a_single_picture_is_none(tmp_path):
    ffmpeg(*pattern(rate=20, seconds=1), tmp_path / "a.gif")
    found = probe(tmp_path / "a.gif")
    assert (found.codec, found.fps, found.frames, found.is_still) == ("gif", 20, 20, False)
    ffmpeg(*pattern(rate=20, seconds=1), "-frames:v", 1, tmp_path / "a.gif")
    assert probe(tmp_path / "a.gif").is_still
    (tmp_path / "a.gif").write_bytes((tmp_path / "a.gif").read_bytes()[:9])
    with pytest.raises(Reject, match="corrupt"):
        probe(tmp_path / "a.gif")
