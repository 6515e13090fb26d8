"""A window of a foreign clip: how ffmpeg reads exactly its frames, wherever in the file it begins.

A demuxer's seek is no more than a hint: in a transport stream it may end behind the wanted key frame, in an AVI file
the times after it are guesses. So a window is cut by the times of its decoded frames, counted from the file's first
frame, and the decoder begins

- before the window, where the container has an index and a time for every frame (MP4, MOV, Matroska, WebM). ffmpeg
  then has to show that the first frame that it decoded is a key frame and no later than the window; if not,
- at the start of the file, as always in other containers. Their times may jump or wrap around, and only a decoder that
  has seen all of them counts them right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ffpdata.media import ffmpeg
from ffpdata.media.filter_graph import chain, graph, video_filter
from ffpdata.media.probe import CONTAINERS, DECODERS, MAX_PIXELS, Probe

INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""libav's names of the containers in which a seek can be exact."""

EARLY_S = 1.0
"""Seconds before the window at which decoding begins: frames are stored out of order by no more than this."""

TOLERANCE_S = 0.001
"""A window may begin with a frame this much before its start: Matroska and our tables round times to milliseconds."""

_TIME_BASE = re.compile(rb"Parsed_showinfo_\d+ @ 0x[0-9a-f]+\] \[info\] config in time_base: (\d+/\d+)")
_FIRST_FRAME = re.compile(rb"Parsed_showinfo_\d+ @ 0x[0-9a-f]+\] \[info\] n: *0 pts: *(-?\d+) .*? iskey:([01])")


@dataclass(frozen=True)
class Window:
    """Part of a clip, and where its decoder begins.

    Attributes:
        start_s: seconds from the clip's first frame to the window's first.
        seconds: length.
        entry_s: seconds from the clip's first frame to where the decoder is sent; 0 decodes from the start.
    """

    start_s: float
    seconds: float
    entry_s: float = 0.0


def entries(probe: Probe, start_s: float, seconds: float) -> list[Window]:
    """Return the ways to read a window, the cheapest first; the last one, from the start of the file, always holds."""
    from_start = Window(start_s, seconds)
    entry_s = start_s - EARLY_S
    if probe.container in INDEXED and probe.origin_s is not None and entry_s > 0:
        return [Window(start_s, seconds, entry_s), from_start]
    return [from_start]


def input_args(src: Path, probe: Probe, window: Window) -> list[str]:
    """Return ffmpeg's arguments to read one stream of one file, and to stop at the first damage.

    `window_filter` must come first in the filters. Up to the window's end no more is read than needed.
    """
    where: list[str] = []
    if window.entry_s:  # -copyts: with the file's own times
        where = ["-copyts", "-seek_timestamp", "1", "-noaccurate_seek"]
        where += ["-ss", f"{(probe.origin_s or 0) + window.entry_s:.6f}"]
    elif probe.origin_s is not None:  # ffmpeg counts from the first sound or frame, we from the first frame
        where = ["-t", f"{window.start_s + window.seconds + max(0.0, probe.start_offset_s):.6f}"]
    return [
        *("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-codec_whitelist", DECODERS),
        *("-max_pixels", str(MAX_PIXELS), "-err_detect", "explode", "-xerror", "-threads", "2", *where),
        *("-i", ffmpeg.file_url(src), "-map", f"0:{probe.stream_index}", "-an", "-sn", "-dn"),
    ]


def window_filter(probe: Probe, window: Window) -> str:
    """Return the filters that keep the window's frames, with times in seconds from the clip's first frame.

    Where packets have no times, frames are counted at the rate that the header tells. Where the decoder was sent to the
    window, the first frame that it decoded is logged for `began_early_enough`.
    """
    from_start = video_filter("select", f"gte(t,{window.start_s - TOLERANCE_S:.6f})")  # `trim` rounds to the time base
    to_end = video_filter("trim", end=f"{window.start_s + window.seconds:.6f}")
    if not window.entry_s:
        if probe.origin_s is None:
            count = [video_filter("setpts", f"round(N/({probe.fps:.9f}*TB))"), to_end]
        else:  # input_args ends the window
            count = [video_filter("setpts", "PTS-STARTPTS")]
        return chain(*count, from_start) if window.start_s else chain(*count)
    first = chain(
        video_filter("trim", end_frame=1), video_filter("showinfo", checksum=0), video_filter("nullsink"),
        inputs=["first"],
    )  # fmt: skip
    clip = chain(
        video_filter("setpts", f"round(PTS-({probe.origin_s or 0:.9f})/TB)"),
        from_start,
        to_end,
        inputs=["clip"],
    )
    return graph(chain(video_filter("split", 2), outputs=["first", "clip"]), first, clip)


def began_early_enough(log: bytes, probe: Probe, window: Window) -> bool:
    """Return whether ffmpeg's log proves that no frame of the window is missing or damaged for want of those before it.

    Every frame from a key frame on can be decoded, whatever was skipped before it; those that refer to earlier frames
    are shown before the key frame, and here that one comes first.
    """
    if not window.entry_s:
        return True
    base, first = _TIME_BASE.search(log), _FIRST_FRAME.search(log)
    if base is None or first is None or first[2] != b"1":
        return False
    time = float(int(first[1]) * Fraction(base[1].decode())) - (probe.origin_s or 0)
    return time <= window.start_s - TOLERANCE_S
