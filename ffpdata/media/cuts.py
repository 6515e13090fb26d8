"""Find the shots of a clip: a training clip must not run across a cut, a fade or a flash.

ffmpeg runs in its own process and pipes out small frames at a fixed rate; PySceneDetect finds the cuts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from ffpdata.core.errors import Reject, RetryableError
from ffpdata.media import ffmpeg
from ffpdata.media.filter_graph import chain, video_filter
from ffpdata.media.probe import Probe, check_regular_file
from ffpdata.media.window import Window, input_args, window_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONG_SIDE, SHORT_SIDE = 256, 144
"""Size in pixels at which cuts are searched: larger frames find no more of them."""
MAX_RATE = 30.0
"""Highest rate at which frames are searched, frames per second."""
MIN_SHOT_S = 0.25
"""Shorter shots are flashes and belong to the shots around them."""
DARK = 32
MIN_LIT = 0.01
"""A frame of which less than this part is brighter than `DARK` is black, or a title on black."""
FLAT_RANGE = 20
"""A frame that spans fewer gray levels shows nothing: a white flash, fog."""


def find_shots(path: Path, probe: Probe, *, scan_seconds: float, timeout_s: float = 120.0) -> list[tuple[float, float]]:
    """Split the beginning of a clip into shots.

    Args:
        path: a clip that `probe` accepted.
        probe: its result.
        scan_seconds: how much of the clip to search, from its first frame on.
        timeout_s: wall-clock limit of the decoder.

    Returns:
        (start, end) in seconds from the first frame, in order. One frame is left out on either side of a cut, and
        black or flat frames are in no shot; the list is empty where all frames are flat.

    Raises:
        Reject: `corrupt` where the decoder meets damage.
        RetryableError: the time limit was reached.
    """
    path = check_regular_file(path)
    rate = min(probe.fps, MAX_RATE)
    frames = _small_frames(path, probe, rate, scan_seconds, timeout_s)
    cuts, flat, count = _detect(frames, rate)
    return [(start, min(end, scan_seconds)) for start, end in _shots(cuts, flat, count, rate) if start < scan_seconds]


def _detect(frames: Iterator[NDArray[np.uint8]], rate: float) -> tuple[list[int], list[bool], int]:
    """Return the index of each new shot's first frame, whether each frame is flat, and the number of frames."""
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector = AdaptiveDetector(min_scene_len=max(1, round(MIN_SHOT_S * rate)))
    cuts: list[int] = []
    flat: list[bool] = []
    for number, frame in enumerate(frames):
        cuts += [cut.frame_num for cut in detector.process_frame(FrameTimecode(number, rate), frame)]
        flat.append(_is_flat(frame))
    if flat:
        cuts += [cut.frame_num for cut in detector.post_process(FrameTimecode(len(flat), rate))]
    return sorted(set(cuts)), flat, len(flat)


def _is_flat(frame: NDArray[np.uint8]) -> bool:
    gray = frame[::2, ::2, 1]  # green is close to luma
    lit = gray > DARK
    if lit.mean() < MIN_LIT:
        return True
    inside = gray[lit.any(axis=1)][:, lit.any(axis=0)][2:-2, 2:-2]  # without black bars and their blurred edges
    if not inside.size:
        return True
    low, high = np.percentile(inside, (1, 99))
    return bool(high - low < FLAT_RANGE)


def _shots(cuts: list[int], flat: list[bool], count: int, rate: float) -> list[tuple[float, float]]:
    """Cut the frames 0..count at `cuts` and at runs of flat frames; one frame is lost on each cut side."""
    shots = []
    starts = {0, *cuts}
    first = None
    for number in range(count + 1):
        ends = number == count or flat[number] or number in starts
        if ends and first is not None:
            start, end = first + (first > 0), number - (number < count)
            if end > start:
                shots.append((start / rate, end / rate))
            first = None
        if number < count and not flat[number] and first is None:
            first = number
    return shots


def _small_frames(
    path: Path, probe: Probe, rate: float, scan_seconds: float, timeout_s: float
) -> Iterator[NDArray[np.uint8]]:
    """Yield small BGR frames at a fixed rate."""
    portrait = probe.height > probe.width
    width, height = (SHORT_SIDE, LONG_SIDE) if portrait else (LONG_SIDE, SHORT_SIDE)
    window = Window(0, scan_seconds)
    filters = chain(
        window_filter(probe, window),
        video_filter("fps", f"{rate:.6f}", start_time=0, round="near"),
        video_filter("scale", width, height, flags="area"),
    )
    args = ["-v", "level+info", "-nostats"]
    args += ["-skip_loop_filter", "all"]  # it only smooths, and costs a fifth of the time
    args += input_args(path, probe, window)
    args += ["-vf", filters, "-pix_fmt", "bgr24", "-f", "rawvideo", "pipe:1"]
    size = width * height * 3
    try:
        with tempfile.TemporaryFile() as log:
            with ffmpeg.start(args, timeout_s=timeout_s, stdout=True, log=log) as process:
                while process.stdout and len(data := _read_exactly(process.stdout, size)) == size:
                    yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
            if b"Reconfiguring filter graph" in ffmpeg.read_log(log):
                raise Reject("corrupt", "the picture changes its size or format inside the clip: cut it there")
    except ffmpeg.TooSlowError as err:
        raise RetryableError(f"looking for cuts in {scan_seconds:g} s of {path.name}: {err}") from err
    except ffmpeg.FfmpegError as err:
        raise Reject("corrupt", f"decoding fails in the first {scan_seconds:g} s: {err}") from err


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    """Read `size` bytes from an unbuffered pipe; fewer at its end."""
    parts = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
