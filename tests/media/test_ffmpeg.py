import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ffpdata.core.errors import FatalError
from ffpdata.media import ffmpeg

SLOW = ("-re", "-f", "lavfi", "-i", "testsrc2=s=64x64", "-f", "null", "-")


def test_the_first_complaint_is_quoted_and_not_its_echoes():
    with pytest.raises(ffmpeg.FfmpegError, match=r"^Error opening input: No such file.*ended with code") as caught:
        ffmpeg.run(["-i", "file:/nowhere.mp4", "-f", "null", "-"], timeout_s=20)
    assert "Conversion failed" not in str(caught.value)


def test_the_time_limit_kills():
    started = time.monotonic()
    with pytest.raises(ffmpeg.TooSlowError, match=r"stopped after 0\.3 s"):
        ffmpeg.run(SLOW, timeout_s=0.3)
    assert time.monotonic() - started < 5


def test_an_error_in_the_block_kills():
    with pytest.raises(KeyError), ffmpeg.start(SLOW, timeout_s=60) as process:
        raise KeyError("stop")
    assert process.returncode < 0
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_what_it_prints_comes_back():
    log = ffmpeg.run(["-v", "level+info", "-f", "lavfi", "-i", "testsrc2=d=0.1", "-f", "null", "-"], timeout_s=20)
    assert b"[info] " in log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_fatal():
    with pytest.raises(FatalError, match="disk full"):
        ffmpeg.run(["-f", "lavfi", "-i", "testsrc2=d=1", "-f", "rawvideo", "file:/dev/full"], timeout_s=20)


def test_a_frame_feeder_may_stop_early_and_ffmpeg_may_die_early(tmp_path):
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", "64x64", "-r", "16", "-i", "pipe:0"]
    ffmpeg.run([*raw, "-f", "null", "-"], timeout_s=20, feed=(bytes(4096) for _ in range(3)))
    with pytest.raises(ffmpeg.FfmpegError, match="No such file"):
        ffmpeg.run([*raw, "file:/nowhere/x.mp4"], timeout_s=20, feed=(bytes(4096) for _ in range(5000)))


def test_filters_are_known():
    assert ffmpeg.has_filter("scale")
    assert not ffmpeg.has_filter("no_such_filter")


def test_names_cannot_become_options_or_urls(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert ffmpeg.file_url(Path("-y")) == f"file:{tmp_path}/-y"
    assert ffmpeg.file_url(Path("http:")) == f"file:{tmp_path}/http:"


@pytest.mark.skipif(not ffmpeg.parent_death_prefix(), reason="no setpriv on this machine")
def test_it_dies_with_its_parent():
    """A worker that is killed leaves no ffmpeg behind."""
    code = (
        "from ffpdata.media import ffmpeg\n"
        "with ffmpeg.start(['-re', '-f', 'lavfi', '-i', 'testsrc', '-f', 'null', '-'], timeout_s=60) as process:\n"
        "    print(process.pid, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().strip())
        until = time.monotonic() + 10
        while not (child / "comm").read_text().startswith("ffmpeg"):  # before that setpriv runs in its place
            assert time.monotonic() < until, "ffmpeg never began"
            time.sleep(0.01)
        parent.kill()
    until = time.monotonic() + 10
    while child.exists() and "Z" not in (child / "stat").read_text().split()[2]:
        assert time.monotonic() < until, "it runs on"
        time.sleep(0.05)
