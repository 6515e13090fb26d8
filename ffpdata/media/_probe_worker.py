"""Child process of `probe`: opens one file with libav and prints the clip's properties as JSON.

It runs as a script, `python _probe_worker.py PATH`, so that a hang or a crash of a decoder ends only this process, and
it imports nothing of ffpdata.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import statistics
import sys
from typing import Any, NamedTuple

CONTAINERS = "mov,matroska,mpegts,avi,gif"
CODECS = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "prores", "mjpeg", "gif")
DECODERS = "h264,hevc,libdav1d,av1,vp8,libvpx,vp9,libvpx-vp9,mpeg4,prores,mjpeg,gif"
MAX_PIXELS = 36_000_000
MEMORY_LIMIT = 4 << 30
BLACK = 24
SCAN_PACKETS = 3000
"""Packets read to measure the real frame times, a minute or two of video. They are not decoded."""

_FRAME_TRIES = 300
_PICTURES = 0x0400 | 0x0800 | 0x100000
"""libav's disposition flags of a stream that is no film: attached picture, timed thumbnails, still image."""
_CHOICE_PACKETS = 1000
"""Packets read to tell a film from a preview beside it."""
_PAUSE = 10
"""A time between frames that is longer than so many ordinary ones is a pause."""

_TRANSFERS = {1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 8: "linear", 13: "iec61966-2-1"}
_TRANSFERS |= {14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 18: "arib-std-b67"}
_SPACES = {0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc", 10: "bt2020c"}
_PRIMARIES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 12: "smpte432"}


class Refused(Exception):
    """The file is rejected, with its reason."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def main() -> None:
    """Print `{"reason": ..., "detail": ...}` or the clip's properties, as JSON."""
    path = sys.argv[1]
    limit_memory()
    try:
        answer = probe_file(path)
    except Refused as refused:
        answer = {"reason": refused.reason, "detail": refused.detail}
    except MemoryError:
        answer = {"reason": "too_large", "detail": f"reading it needs more than {MEMORY_LIMIT >> 30} GB of memory"}
    sys.stdout.write(json.dumps(answer))


def limit_memory() -> None:
    """Keep a crafted file from taking the machine's memory or leaving a core file."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def probe_file(path: str) -> dict[str, Any]:
    """Open the file, choose its video stream, decode one frame, read its packets' times; return the properties."""
    import av

    av.logging.set_level(av.logging.ERROR)
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": CONTAINERS,
        "codec_whitelist": DECODERS,
        "max_pixels": str(MAX_PIXELS),
    }
    with av.logging.Capture() as logs:
        try:
            container = av.open(f"file:{path}", options=options, metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as err:
            raise refusal_for(path, err, [entry[2] for entry in logs]) from None
        with container:
            stream = choose_stream(container)
            stream.thread_count = 1
            return measure_stream(container, stream)


def refusal_for(path: str, err: Exception, logs: list[str]) -> Refused:
    """Return the reason why a file could not be opened."""
    message = _shorten(" ".join(logs))
    if "not on whitelist" in message:
        return Refused("container_not_allowed", f"it is none of the containers {CONTAINERS} ({message})")
    with open(path, "rb") as file:  # noqa: PTH123
        head = file.read(16)
    known = head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide") or head[:4] in (b"\x1a\x45\xdf\xa3", b"RIFF")
    if known or head[:1] == b"G":  # a transport stream, or a GIF
        return Refused("corrupt", f"it begins like a video file and cannot be read as one: {message or err}")
    return Refused("not_a_video", f"none of the containers {CONTAINERS} is found in it")


def choose_stream(container: Any) -> Any:
    """Return the stream of the film: no cover picture, and no preview beside it.

    Raises:
        Refused: there is none, its codec is not allowed, or its frames are too large.
    """
    streams = [s for s in container.streams.video if not int(s.disposition) & _PICTURES]
    if not streams:
        kinds = sorted({s.type for s in container.streams}) or ["no streams"]
        cover = " and a cover picture" if container.streams.video else ""
        raise Refused("no_video_stream", f"found {', '.join(k for k in kinds if k != 'video') or 'nothing'}{cover}")
    stream = streams[0] if len(streams) == 1 else largest_film(container, streams)
    codec = codec_name(stream)
    if codec not in CODECS:
        raise Refused("codec_not_allowed", f"codec {codec} is none of {', '.join(CODECS)}: convert the file to H.264")
    pixels = stream.width * stream.height
    if pixels > MAX_PIXELS:
        raise Refused("too_large", f"{stream.width}x{stream.height} is {pixels} pixels, the limit is {MAX_PIXELS}")
    return stream


def codec_name(stream: Any) -> str:
    """Return libav's name of a stream's codec, whatever decodes it."""
    try:
        return str(stream.codec_context.codec.canonical_name)
    except (AttributeError, ValueError):
        return getattr(stream.codec_context, "name", None) or "unknown"


def largest_film(container: Any, streams: list[Any]) -> Any:
    """Return the largest stream of those that have about as many frames as any, the first of equals.

    A preview has few frames, or small ones; a cover that is not marked as one has a single frame.
    """
    import av

    counts = dict.fromkeys((s.index for s in streams), 0)
    try:
        for number, packet in enumerate(container.demux(streams)):
            counts[packet.stream_index] += packet.size > 0
            if number >= _CHOICE_PACKETS:
                break
        container.seek(0)
    except (av.error.FFmpegError, ValueError):
        pass  # what was counted has to do; reading the chosen stream meets the same damage
    enough = max(counts.values()) / 4
    films = [s for s in streams if counts[s.index] >= enough]
    allowed = [s for s in films if codec_name(s) in CODECS] or films
    return max(allowed, key=lambda s: s.width * s.height)


def measure_stream(container: Any, stream: Any) -> dict[str, Any]:
    """Measure the stream; return the fields of `probe.Probe`, with the coded size in place of the displayed one."""
    scan = scan_packets(container, stream)
    frame = scan.first
    if frame is None:
        if not scan.packets:
            raise Refused("no_video_stream", "the video stream holds no frames")
        raise Refused("corrupt", f"no frame can be decoded from the first {scan.packets} packets")
    step = float(stream.time_base or 0)
    timestamps = sorted(set(scan.times))
    gaps = [(b - a) * step for a, b in itertools.pairwise(timestamps)]
    fps = float(stream.average_rate or 0)  # libav's guess may be the time base
    if scan.packets == len(scan.times) and len(gaps) > 1:
        measured = playing_rate(gaps)
        if not fps or abs(measured / fps - 1) > 0.02:
            fps = measured  # the header's average is a guess in transport streams and wrong in cut files
    if not fps:
        raise Refused("no_times", "neither its packets nor its header tell when frames are shown: convert the file")
    span = sum(gaps) if len(scan.times) == scan.packets else max(0, scan.packets - 1) / fps
    sar = stream.sample_aspect_ratio
    started = frame.pts if frame.pts is not None else (timestamps[0] if timestamps else None)
    return {
        "container": container.format.name,
        "stream_index": stream.index,
        "coded_width": frame.width,
        "coded_height": frame.height,
        "fps": fps,
        "frames": scan.packets if scan.ended else (stream.frames or None),
        "duration_s": stream_duration(container, stream, span + 1 / fps, scan.ended),
        "origin_s": started * step if started is not None and len(scan.times) == scan.packets else None,
        "start_offset_s": started * step - (container.start_time or 0) / 1e6 if started is not None else 0.0,
        "max_gap_s": max(gaps, default=0.0),
        "codec": stream.codec_context.codec.canonical_name,
        "pix_fmt": frame.format.name,
        "rotation": int(frame.rotation),
        "sar": float(sar) if sar and sar > 0 else 1.0,
        "color_transfer": _TRANSFERS.get(int(stream.codec_context.color_trc)),
        "color_space": _SPACES.get(int(frame.colorspace)),
        "color_primaries": _PRIMARIES.get(int(stream.codec_context.color_primaries)),
        "dark_edges": dark_edges(frame),
        "interlaced": bool(frame.interlaced_frame),
        "is_still": scan.ended and scan.packets == 1,
    }


def playing_rate(gaps: list[float]) -> float:
    """Return frames per second, on average, from the times between frames; long pauses are left out of the average.

    One late frame must not make a slow clip of a fast one: where a clip stands still is looked at when it is cut.
    """
    longest = _PAUSE * statistics.median(gaps)
    playing = [gap for gap in gaps if gap <= longest]
    return len(playing) / sum(playing)


def dark_edges(frame: Any) -> bool:
    """Return whether the first and last line, or the first and last column, of an 8-bit frame are black."""
    if not frame.format.name.startswith(("yuv4", "yuvj4")) or frame.format.components[0].bits != 8:
        return False
    plane = frame.planes[0]
    data, step = bytes(plane), plane.line_size
    last = (plane.height - 1) * step
    lines = (data[: plane.width], data[last : last + plane.width], data[: last + 1 : step])
    top, bottom, left, right = (sum(s) / len(s) <= BLACK for s in (*lines, data[plane.width - 1 :: step]))
    return (top and bottom) or (left and right)


class Scan(NamedTuple):
    """What the first `SCAN_PACKETS` packets of a stream hold.

    Attributes:
        first: the first frame that could be decoded; None without any.
        packets: number of packets with a frame that is shown.
        times: their presentation times, of those that have one, in the stream's time base.
        ended: the end of the file was reached.
    """

    first: Any
    packets: int
    times: list[int]
    ended: bool


class Clock:
    """Counts on where the times in a stream begin anew, as ffmpeg does: two transport streams joined to one.

    Args:
        time_base: seconds of a tick.
        may_jump: False for containers whose times are what they say.
    """

    def __init__(self, time_base: Any, *, may_jump: bool) -> None:
        self._back, self._on = 0.1 / time_base, 10 / time_base  # ffmpeg's limits
        self._may_jump = may_jump
        self._expected: int | None = None
        self._ahead = 0

    def ahead(self, decoded: int | None, duration: int | None) -> int:
        """Return the ticks to be added to a packet's times, given when it is decoded and how long it is shown."""
        if decoded is not None and self._may_jump:
            if self._expected is not None:
                late = decoded + self._ahead - self._expected
                if late < -self._back or late > self._on:
                    self._ahead -= late
            self._expected = decoded + self._ahead + (duration or 0)
        return self._ahead


def scan_packets(container: Any, stream: Any) -> Scan:
    """Read packets, and decode them up to the first frame."""
    import av

    first: Any = None
    packets = 0
    times: list[int] = []
    clock = Clock(stream.time_base or 1, may_jump="mpegts" in container.format.name)
    try:
        for packet in container.demux(stream):
            if not packet.size:
                if first is None:  # the end of the stream: flush the decoder
                    first = next(iter(stream.codec_context.decode(None)), None)
                continue
            if packet.is_corrupt:
                raise Refused("corrupt", f"packet {packets} is cut short or damaged")
            if not packet.is_discard:
                packets += 1
                if (time := packet.pts if packet.pts is not None else packet.dts) is not None:
                    times.append(time + clock.ahead(packet.dts, packet.duration))
            if first is None and packets <= _FRAME_TRIES:
                first = next(iter(packet.decode()), None)
            if packets >= SCAN_PACKETS:
                return Scan(first, packets, times, ended=False)
    except (av.error.FFmpegError, ValueError) as err:
        message = str(err)
        if "exceeds specified max pixel count" in message:
            raise Refused("too_large", f"a frame has more than {MAX_PIXELS} pixels: {_shorten(message)}") from None
        if getattr(err, "errno", None) == errno.ENOMEM:
            raise MemoryError from None
        raise Refused("corrupt", f"reading stops after {packets} frames: {_shorten(message)}") from None
    return Scan(first, packets, times, ended=True)


def _shorten(message: str) -> str:
    return " ".join(message.split())[-300:]


def stream_duration(container: Any, stream: Any, measured: float, ended: bool) -> float:
    """Return seconds: measured where the whole file was read, from the headers otherwise."""
    if ended and measured > 0:
        return measured
    if stream.duration and stream.time_base:
        return max(measured, float(stream.duration * stream.time_base))
    return max(measured, (container.duration or 0) / 1e6, 0.0) if math.isfinite(measured) else 0.0


if __name__ == "__main__":
    main()
