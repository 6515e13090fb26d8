"""Probe a foreign file before any other code opens it: the clip that it holds, or the reason of its rejection.

A foreign file may be a pipe that never answers, a playlist that names other files or hosts, a picture that fills the
memory, or a stream that crashes its decoder. So only regular files are opened, and libav opens them in a child process
that reads local files only, accepts few containers and codecs, and is killed at a time limit.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffpdata.core.errors import FatalError, FfpdataError, Reject, RetryableError
from ffpdata.media import _probe_worker
from ffpdata.media.ffmpeg import parent_death_prefix

CONTAINERS = _probe_worker.CONTAINERS
DECODERS = _probe_worker.DECODERS
MAX_PIXELS = _probe_worker.MAX_PIXELS
"""36 megapixels: above 8K video (33) and below what fills the memory."""

HDR_TRANSFERS = ("smpte2084", "arib-std-b67")


@dataclass(frozen=True)
class Probe:
    """Properties of a clip, measured from its packets where its header is wrong.

    Attributes:
        width, height: pixels as displayed: after rotation, and with the width stretched by the pixel aspect ratio.
        fps: frames per second on average, measured from the packets where the header is wrong.
        frames: number of frames; None where the header has none and the file was not read to its end.
        duration_s: seconds of the video stream.
        codec, pix_fmt, container: libav's names.
        rotation: degrees that the display matrix turns the picture counter-clockwise.
        sar: width of a pixel by its height.
        color_transfer, color_space, color_primaries: libav's names, None where the file has no tag.
        is_hdr: PQ (HDR10) or HLG transfer.
        interlaced: the first frame is made of two fields.
        is_still: the file holds one frame only.
        dark_edges: the first frame may have black bars.
        max_gap_s: longest time between two frames, of those that were read, seconds.
        start_offset_s: seconds from the file's start to the first frame, where sound begins earlier.
        origin_s: time of the first frame that can be decoded, in the file's own count; None where packets have none.
        stream_index: index of the video stream in the file.
    """

    width: int
    height: int
    fps: float
    frames: int | None
    duration_s: float
    codec: str
    pix_fmt: str
    rotation: int
    sar: float
    color_transfer: str | None
    is_hdr: bool
    is_still: bool
    color_space: str | None = None
    color_primaries: str | None = None
    interlaced: bool = False
    dark_edges: bool = False
    max_gap_s: float = 0.0
    start_offset_s: float = 0.0
    origin_s: float | None = None
    stream_index: int = 0
    container: str = ""


def probe(path: Path, *, timeout_s: float = 20) -> Probe:
    """Probe one clip.

    Args:
        path: a local file; never read as a URL or an option, whatever its name.
        timeout_s: wall-clock limit of the child process.

    Raises:
        Reject: `missing_file`, `unreadable`, `not_a_regular_file`, `empty_file`, `not_a_video`,
            `container_not_allowed`, `no_video_stream`, `codec_not_allowed`, `too_large`, `corrupt` (also when the
            decoder crashes on it).
        RetryableError: the time limit was reached, or the child was killed from outside.
    """
    path = check_regular_file(path)
    answer = _run_probe(path, timeout_s)
    if "reason" in answer:
        raise Reject(answer["reason"], answer["detail"])
    width, height = answer.pop("coded_width"), answer.pop("coded_height")
    width = max(1, round(width * answer["sar"]))
    if answer["rotation"] % 180:
        width, height = height, width
    if width * height > MAX_PIXELS:
        raise Reject("too_large", f"displayed at {width}x{height}, {width * height} pixels, the limit is {MAX_PIXELS}")
    return Probe(width=width, height=height, is_hdr=answer["color_transfer"] in HDR_TRANSFERS, **answer)


def check_regular_file(path: Path) -> Path:
    """Return the absolute path of a readable, regular, non-empty file, without opening anything else.

    Raises:
        Reject: `missing_file`, `unreadable`, `not_a_regular_file`, `empty_file`.
    """
    path = Path(path).absolute()
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Reject("not_a_regular_file", f"{path.name} is a {_kind(status.st_mode)}: give a video or image file")
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)))
    except FileNotFoundError:
        raise Reject("missing_file", f"{path} does not exist") from None
    except ValueError as err:  # a null byte in the name
        raise Reject("missing_file", f"{str(path)!r} names no file: {err}") from None
    except OSError as err:
        if err.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE):
            raise RetryableError(f"cannot open {path}: {err.strerror}") from err
        raise Reject("unreadable", f"{path}: {err.strerror}; check its permissions") from None
    if status.st_size == 0:
        raise Reject("empty_file", f"{path.name} has 0 bytes: copy it again")
    return path


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "named pipe", stat.S_IFCHR: "device", stat.S_IFBLK: "device", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "directory" if stat.S_ISDIR(mode) else "special file")


def _run_probe(path: Path, timeout_s: float) -> dict[str, Any]:
    """Run the child process and return the JSON object that it prints."""
    command = [*parent_death_prefix(), sys.executable, "-I", _probe_worker.__file__, os.fspath(path)]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
        )
    except OSError as err:
        raise RetryableError(f"cannot start the probe: {err}") from err
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise RetryableError(f"probing {path.name} took more than {timeout_s:g} s and was stopped") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode == 0 and stdout:
        answer: dict[str, Any] = json.loads(stdout)
        return answer
    lines = stderr.decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else ""
    if process.returncode == -signal.SIGKILL:
        raise RetryableError(f"the probe of {path.name} was killed from outside, mostly for want of memory")
    if process.returncode < 0:
        raise Reject("corrupt", f"the decoder crashed on it (signal {-process.returncode})")
    if "ModuleNotFoundError" in last or "ImportError" in last:
        raise FatalError(f"the probe does not work here: {last}; reinstall ffpdata")
    raise FfpdataError(f"probing {path.name} failed: {last or f'exit code {process.returncode}'}")
