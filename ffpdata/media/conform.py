"""Bring a clip or an image to the dataset's geometry: exact size, rate and number of frames, BT.709, square pixels.

A clip is cut from the source and never padded, frozen or left short: what does not fill the geometry is rejected. One
ffmpeg process does the work; it can read nothing but the one file. The result gets its name only after its frames were
counted and its size and tags checked.
"""

from __future__ import annotations

import itertools
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ffpdata.core.errors import FfpdataError, Reject, RetryableError
from ffpdata.media import codec, ffmpeg
from ffpdata.media.ffmpeg_filters import Crop, conform_chain, detection_chain, input_args
from ffpdata.media.geometry import Geometry
from ffpdata.media.images import conform_image, probe_image
from ffpdata.media.probe import MAX_PIXELS, Probe, check_regular_file

__all__ = ["Conformed", "Crop", "conform", "conform_image", "probe_image"]

MIN_SIDE = 240
"""Shorter sources look like what they are, enlarged."""
MIN_FPS = 8.0
"""Below this more than every second frame of a 16 fps clip would repeat the one before it."""
MAX_FPS = 240.0
"""Above the rates of cameras a header is wrong, or the clip is a slow-motion master."""
MAX_GAP_S = 0.5
"""A longer pause between two frames is a frozen picture."""

MIN_BAR = 0.01
"""Bars thinner than this part of the picture stay."""
BAR_SYMMETRY = 0.02
"""Bars come in equal pairs: a dark floor is no letterbox. Allowed difference, as a part of the picture."""

_MARGIN_S = 2.0
_CROPDETECT_LINE = re.compile(
    rb"^\[Parsed_cropdetect_\d+ @ 0x[0-9a-f]+\] \[info\] x1:(-?\d+) x2:(-?\d+) y1:(-?\d+) y2:(-?\d+) .* t:(-?[0-9.]+)",
    re.MULTILINE,
)


class CroppedFrame(NamedTuple):
    """One source frame, as ffmpeg's cropdetect logs it.

    Attributes:
        x1, x2, y1, y2: first and last column and row that are not black in this or any earlier frame, pixels.
        time: presentation time, seconds.
    """

    x1: int
    x2: int
    y1: int
    y2: int
    time: float


@dataclass(frozen=True)
class Conformed:
    """Size of a conformed clip in pixels, and the part of the source that was kept where black bars were cut off."""

    width: int
    height: int
    crop: Crop | None


def conform(
    src: Path,
    dst: Path,
    geometry: Geometry,
    probe: Probe,
    *,
    start_s: float = 0.0,
    timeout_s: float = 180.0,
    crop_bars: bool = True,
    min_side: int = MIN_SIDE,
    min_fps: float = MIN_FPS,
    max_fps: float = MAX_FPS,
) -> Conformed:
    """Write exactly `geometry.frames` frames of `src`, from `start_s` on, to `dst`.

    The picture is scaled to cover the target and cropped at its centre; a portrait source gets the turned size. HDR is
    tone-mapped, fields are joined, rotation and pixel shape are applied. The same source gives the same bytes.

    Args:
        src: a clip that `probe` accepted.
        dst: mp4 to write. Nothing appears under this name before it is complete.
        geometry: size, rate and length of the clip.
        probe: the result of `probe` for `src`.
        start_s: seconds from the source's first frame to the clip's first.
        timeout_s: wall-clock limit of each ffmpeg process (there may be two or three where bars are cut off).
        crop_bars: cut off black bars that are there in every frame.
        min_side: shortest accepted side of the displayed picture, without its bars, in pixels.
        min_fps: lowest accepted rate of the source.
        max_fps: highest accepted rate of the source.

    Raises:
        Reject: `too_small`, `fps_too_low`, `fps_too_high`, `too_short`, `corrupt`, `too_large`, `hdr_not_supported`.
        RetryableError: the time limit was reached, or ffmpeg was killed from outside.
        FatalError: the disk is full or read-only.
    """
    src, dst = check_regular_file(src), Path(dst).absolute()
    check_source(probe, min_side=min_side, min_fps=min_fps, max_fps=max_fps)
    if probe.frames is not None and probe.duration_s + _MARGIN_S < start_s + geometry.seconds:
        raise _too_short(probe, geometry, start_s, f"the source has {probe.duration_s:.2f} s")
    temporary = dst.with_name(f".{dst.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        crop = None
        if crop_bars and probe.dark_edges:
            crop = _inside_bars(_run(src, None, geometry, probe, start_s, timeout_s, None), probe)
        source_frames = _run(src, temporary, geometry, probe, start_s, timeout_s, crop)
        _check_times([frame.time for frame in source_frames], geometry, min_fps)
        if (
            crop_bars and crop is None and (crop := _inside_bars(source_frames, probe))
        ):  # bars that the file's first frame does not have
            _run(src, temporary, geometry, probe, start_s, timeout_s, crop)
        if crop:
            _check_size(crop.width, crop.height, min_side)
        size = geometry.size_for(*((crop.width, crop.height) if crop else (probe.width, probe.height)))
        _check_result(temporary, geometry, size, probe, start_s)
        temporary.replace(dst)
    except OSError as err:
        raise RetryableError(f"cannot finish {dst}: {err}") from err
    finally:
        temporary.unlink(missing_ok=True)
    return Conformed(*size, crop)


def _run(  # noqa: PLR0917
    src: Path, dst: Path | None, geometry: Geometry, probe: Probe, start_s: float, timeout_s: float, crop: Crop | None
) -> list[CroppedFrame]:
    """Run ffmpeg once, only to decode where `dst` is None; return the log of cropdetect for every source frame."""
    args = ["-v", "level+info", "-nostats"]
    args += input_args(src, probe, start_s=start_s, seconds=geometry.seconds + _MARGIN_S)
    if dst is None:
        args += ["-vf", detection_chain(geometry, probe), "-f", "null", "-"]
    else:
        args += ["-vf", conform_chain(geometry, probe, crop), "-frames:v", str(geometry.frames)]
        args += [*codec.CLIP_ENCODER, *codec.REPRODUCIBLE, *codec.CONTAINER, ffmpeg.file_url(dst)]
    where = f"between {start_s:g} and {start_s + geometry.seconds:g} s"
    try:
        log = ffmpeg.run(args, timeout_s=timeout_s)
    except ffmpeg.TooSlowError as err:
        raise RetryableError(f"conforming {src.name} to {geometry.frames} frames: {err}") from err
    except ffmpeg.FfmpegError as err:
        if "exceeds specified max pixel count" in str(err):
            raise Reject("too_large", f"a frame has more than {MAX_PIXELS} pixels") from err
        if dst is not None and dst.name in str(err):
            raise RetryableError(f"cannot write the clip: {err}") from err
        raise Reject("corrupt", f"decoding fails {where}: {err}") from err
    if b"Reconfiguring filter graph" in log:
        raise Reject("corrupt", f"the picture changes its size or format {where}: cut the clip there")
    return [
        CroppedFrame(int(x1), int(x2), int(y1), int(y2), float(t))
        for x1, x2, y1, y2, t in _CROPDETECT_LINE.findall(log)
    ]


def _inside_bars(source_frames: list[CroppedFrame], probe: Probe) -> Crop | None:
    """Return the picture inside the black bars that every frame has, in displayed pixels; None without bars.

    cropdetect accumulates: the last entry is the smallest rectangle outside which all frames are black.
    """
    if not source_frames:
        return None
    x1, x2, y1, y2 = source_frames[-1][:4]
    wide, tall = (
        (1.0, probe.sar) if probe.rotation % 180 else (probe.sar, 1.0)
    )  # cropdetect runs before pixels are made square
    across = _between_bars(x1 * wide, probe.width - (x2 + 1) * wide, probe.width) if x2 > x1 else None
    down = _between_bars(y1 * tall, probe.height - (y2 + 1) * tall, probe.height) if y2 > y1 else None
    if not across and not down:
        return None
    x, width = across or (0, probe.width)
    y, height = down or (0, probe.height)
    return Crop(width, height, x, y)


def _between_bars(before: float, after: float, length: int) -> tuple[int, int] | None:
    """Return (start, length) between two bars; None where they are too thin, unequal, or leave less than a quarter."""
    if min(before, after) < MIN_BAR * length or abs(before - after) > BAR_SYMMETRY * length:
        return None
    start = int(before / 2 + 1.999) * 2  # one or two lines further in: the edge of a bar is blurred
    end = int((length - after) / 2 - 0.999) * 2
    return (start, end - start) if end - start >= length / 4 else None


def check_source(probe: Probe, *, min_side: int = MIN_SIDE, min_fps: float = MIN_FPS, max_fps: float = MAX_FPS) -> None:
    """Reject a source by its header alone, before any frame is decoded: `too_small`, `fps_too_low`, `fps_too_high`."""
    _check_size(probe.width, probe.height, min_side)
    _check_rate(probe, min_fps, max_fps)


def _check_size(width: int, height: int, min_side: int) -> None:
    if min(width, height) < min_side:
        raise Reject(
            "too_small", f"{width}x{height}, the shorter side must have {min_side} pixels: find a larger version"
        )


def _check_rate(probe: Probe, min_fps: float, max_fps: float) -> None:
    if probe.is_still:
        raise Reject("too_short", "the file holds one frame: give it as an image")
    if probe.fps < min_fps:
        raise Reject("fps_too_low", f"{probe.fps:.4g} fps, the limit is {min_fps:g}: frames would repeat")
    if probe.fps > max_fps:
        raise Reject("fps_too_high", f"{probe.fps:.4g} fps, the limit is {max_fps:g}: convert it to its playing rate")


def _too_short(probe: Probe, geometry: Geometry, start_s: float, found: str) -> Reject:
    start = f" from {start_s:g} s on" if start_s else ""
    expected = f"wanted {geometry.frames} frames = {geometry.seconds:.2f} s at {geometry.fps:g} fps{start}"
    return Reject("too_short", f"{expected}, {found}", facts={"duration_s": probe.duration_s})


def _check_times(times: list[float], geometry: Geometry, min_fps: float) -> None:
    """Refuse a clip that would repeat frames: too few in all, or a pause in between."""
    window = [t for t in times if t <= geometry.seconds]
    if len(window) < 2:
        return  # nothing, or one frame: counted as too short later
    gap = max(b - a for a, b in itertools.pairwise([t for t in times if t <= geometry.seconds + MAX_GAP_S]))
    rate = len(window) / max(window[-1], 1 / geometry.fps)
    if rate < min_fps * 0.9 or gap > MAX_GAP_S:
        raise Reject(
            "fps_too_low",
            f"{len(window)} frames in {geometry.seconds:.2f} s, the longest pause {gap:.2f} s: "
            f"the limits are {min_fps:g} fps and {MAX_GAP_S:g} s",
        )


def _check_result(path: Path, geometry: Geometry, size: tuple[int, int], probe: Probe, start_s: float) -> None:
    """Check number of frames, size, rate and tags of the file that ffmpeg wrote: its return code does not suffice."""
    try:
        found = codec.inspect(path)
    except FfpdataError:
        found = None
    if found is None or found.packets < geometry.frames:
        raise _too_short(probe, geometry, start_s, f"found {found.packets if found else 0}")
    expected = (geometry.frames, *size, float(geometry.rate), ("bt709", "bt709", "bt709", "tv"))
    if found != expected:
        raise FfpdataError(f"ffmpeg wrote {found}, expected {expected}: use the ffmpeg that imageio-ffmpeg brings")
