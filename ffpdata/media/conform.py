"""Bring a clip or an image to the dataset's geometry: exact size, rate and number of frames, BT.709, square pixels.

A clip is cut from the source and never padded, frozen or left short: what does not fill the geometry is rejected. One
ffmpeg process does the work; it can read nothing but the one file. The result gets its name only after its frames were
counted and its size and tags checked.
"""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass
from pathlib import Path

from ffpdata.core.errors import FfpdataError, Reject, RetryableError
from ffpdata.media import codec, ffmpeg
from ffpdata.media.bars import CroppedFrame, cropped_frames, inside_bars
from ffpdata.media.ffmpeg_filters import Crop, conform_chain, detection_chain
from ffpdata.media.geometry import Geometry
from ffpdata.media.images import conform_image, probe_image
from ffpdata.media.probe import MAX_PIXELS, Probe, check_regular_file
from ffpdata.media.window import Window, began_early_enough, entries, input_args

__all__ = ["Conformed", "Crop", "conform", "conform_image", "probe_image"]

MIN_SIDE = 240
"""Shorter sources look like what they are, enlarged."""
MIN_FPS = 8.0
"""Below this more than every second frame of a 16 fps clip would repeat the one before it."""
MAX_FPS = 240.0
"""Above the rates of cameras a header is wrong, or the clip is a slow-motion master."""
MAX_GAP_S = 0.5
"""A longer pause between two frames is a frozen picture."""

_MARGIN_S = 2.0


@dataclass(frozen=True)
class Conformed:
    """What became of a clip.

    Attributes:
        width, height: of the conformed clip, pixels.
        crop: the part of the source that was kept where black bars were cut off.
        start_s: when the clip's first frame is shown in the source, seconds from the source's first frame.
    """

    width: int
    height: int
    crop: Crop | None
    start_s: float


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
    """Write exactly `geometry.frames` frames of `src`, from the first one at or after `start_s` on, to `dst`.

    The picture is scaled to cover the target and cropped at its centre; a portrait source gets the turned size. HDR is
    tone-mapped, fields are joined, rotation and pixel shape are applied. The same source gives the same bytes.

    Args:
        src: a clip that `probe` accepted.
        dst: mp4 to write. Nothing appears under this name before it is complete.
        geometry: size, rate and length of the clip.
        probe: the result of `probe` for `src`.
        start_s: seconds from the source's first frame to the clip's first; a frame up to a millisecond earlier counts.
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
    reader = _Reader(src, geometry, probe, timeout_s, entries(probe, start_s, geometry.seconds + _MARGIN_S))
    try:
        crop = inside_bars(reader.run(None, None), probe) if crop_bars and probe.dark_edges else None
        source_frames = reader.run(temporary, crop)
        _check_times([frame.time for frame in source_frames], start_s, geometry, min_fps)
        if (
            crop_bars and crop is None and (crop := inside_bars(source_frames, probe))
        ):  # bars that the file's first frame does not have
            reader.run(temporary, crop)
        if crop:
            _check_size(crop.width, crop.height, min_side)
        size = geometry.size_for(*((crop.width, crop.height) if crop else (probe.width, probe.height)))
        _check_result(temporary, geometry, size, probe, start_s)
        temporary.replace(dst)
    except OSError as err:
        raise RetryableError(f"cannot finish {dst}: {err}") from err
    finally:
        temporary.unlink(missing_ok=True)
    return Conformed(*size, crop, source_frames[0].time if source_frames else start_s)


@dataclass
class _Reader:
    """Runs ffmpeg over one window of one clip, and remembers which way of reading it holds."""

    src: Path
    geometry: Geometry
    probe: Probe
    timeout_s: float
    ways: list[Window]

    def run(self, dst: Path | None, crop: Crop | None) -> list[CroppedFrame]:
        """Run ffmpeg once, only to decode where `dst` is None; return the log of cropdetect for every source frame."""
        while True:
            window, *slower = self.ways
            try:
                log = self._ffmpeg(window, dst, crop)
            except ffmpeg.FfmpegError as err:
                if not slower:
                    raise self._refusal(window, dst, err) from err
            else:
                if began_early_enough(log, self.probe, window):
                    break
            self.ways = slower
        if b"Reconfiguring filter graph" in log:
            raise Reject("corrupt", f"the picture changes its size or format {_where(window)}: cut the clip there")
        return cropped_frames(log)

    def _ffmpeg(self, window: Window, dst: Path | None, crop: Crop | None) -> bytes:
        args = ["-v", "level+info", "-nostats", *input_args(self.src, self.probe, window)]
        if dst is None:
            args += ["-vf", detection_chain(self.geometry, self.probe, window), "-f", "null", "-"]
        else:
            args += ["-vf", conform_chain(self.geometry, self.probe, window, crop)]
            args += ["-frames:v", str(self.geometry.frames)]
            args += [*codec.CLIP_ENCODER, *codec.REPRODUCIBLE, *codec.CONTAINER, ffmpeg.file_url(dst)]
        try:
            return ffmpeg.run(args, timeout_s=self.timeout_s)
        except ffmpeg.TooSlowError as err:
            raise RetryableError(f"conforming {self.src.name} to {self.geometry.frames} frames: {err}") from err

    @staticmethod
    def _refusal(window: Window, dst: Path | None, err: ffmpeg.FfmpegError) -> FfpdataError:
        if "exceeds specified max pixel count" in str(err):
            return Reject("too_large", f"a frame has more than {MAX_PIXELS} pixels")
        if dst is not None and dst.name in str(err):
            return RetryableError(f"cannot write the clip: {err}")
        return Reject("corrupt", f"decoding fails {_where(window)}: {err}")


def _where(window: Window) -> str:
    return f"between {window.start_s:g} and {window.start_s + window.seconds - _MARGIN_S:g} s"


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


def _check_times(times: list[float], start_s: float, geometry: Geometry, min_fps: float) -> None:
    """Refuse a clip that would repeat frames: too few in all, or a pause before, between or after them."""
    if len(times) < 2:
        return  # nothing, or one frame: counted as too short later
    first = times[0]
    window = [t - first for t in times if t - first <= geometry.seconds]
    after = [min(t - first, geometry.seconds) for t in times[len(window) :][:1]]  # none where the file ends
    gap = max(first - start_s, *(b - a for a, b in itertools.pairwise([*window, *after])))
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
