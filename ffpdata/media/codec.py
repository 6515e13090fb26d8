"""Read and write clips, masks, depth maps and images.

Clips are H.264 at the knee of size against quality, bt709 limited range. Masks and depth are lossless H.264 in
full-range gray. Writing the same pixels gives the same bytes on the same machine. Writers write straight to their
path: the caller passes a temporary name and renames it.

A worker on a GPU lets the next item have the card while a file is read or written here (`processes/turns`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from ffpdata.core.errors import FatalError, FfpdataError, RetryableError, disk_unusable
from ffpdata.media import ffmpeg, pixels
from ffpdata.media.encoders import ARGUMENTS, DEFAULT, HARDWARE, Encoder
from ffpdata.media.filter_graph import chain, video_filter
from ffpdata.media.geometry import as_rate
from ffpdata.processes.turns import decoding, file_work

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Image = NDArray[np.uint8]
    Masks = NDArray[np.bool_]

PNG_LEVEL = 1
"""zlib level of PNG files: higher ones cost several times the time for a few per cent."""

BT709 = {"range": "tv", "colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
"""The tags of every clip, for ffmpeg's `setparams`: the options `-color_primaries` and `-color_trc` are ignored."""

REPRODUCIBLE = ("-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1")
"""No version strings and no dates in the file. The encoder's thread count shapes its bytes too: see `CLIP_ENCODER`."""

CLIP_ENCODER = ARGUMENTS[DEFAULT]
"""Of clips, where nothing else is chosen."""

CONTAINER = ("-movflags", "+faststart", "-f", "mp4")

CHROMA_SITE = {"out_h_chr_pos": 0, "out_v_chr_pos": 128}
"""For ffmpeg's `scale`: H.264 puts chroma on even columns and between two rows; swscale by itself centres it and so
shifts colours by half a pixel."""

_SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_inp+bitexact"
_RGB_TO_BT709 = chain(
    video_filter("scale", flags=_SCALE_FLAGS, out_color_matrix="bt709", out_range="tv", **CHROMA_SITE),
    video_filter("setparams", **BT709),
)

_LOSSLESS = ("-c:v", "libx264", "-preset", "veryfast", "-qp", "0", "-pix_fmt", "gray", "-threads", "1")
_GRAY = ("-vf", video_filter("setparams", range="pc"), *_LOSSLESS)

_RANGES = {1: "tv", 2: "pc"}


class VideoInfo(NamedTuple):
    """Number of frames, size in pixels and frames per second, from the header of an mp4 that ffpdata wrote."""

    frames: int
    width: int
    height: int
    fps: float


def video_info(path: Path) -> VideoInfo:
    """Read the header of an mp4 that ffpdata wrote; for foreign files use `probe`.

    Raises:
        FfpdataError: it is not a readable mp4 with a video stream.
    """
    with _open(path) as container:
        stream = _stream(container, path)
        return VideoInfo(stream.frames, stream.width, stream.height, float(stream.average_rate or 0))


class Inspection(NamedTuple):
    """Counted packets, size in pixels, frames per second and colour tags of an mp4 that ffpdata wrote."""

    packets: int
    width: int
    height: int
    fps: float
    colours: tuple[str, str, str, str]
    """libav's names of matrix, primaries, transfer and range."""


def inspect(path: Path) -> Inspection:
    """Count the packets of an mp4 that ffpdata wrote and read its tags, without decoding.

    Raises:
        FfpdataError: it is not a readable mp4 with a video stream.
    """
    import av

    with _open(path) as container:
        stream = _stream(container, path)
        try:
            packets = sum(1 for packet in container.demux(stream) if packet.size)
        except av.error.FFmpegError as err:
            raise FfpdataError(f"{path}: cannot be read to its end ({err})") from err
        context = stream.codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc)
        matrix, primaries, transfer = ("bt709" if int(tag) == pixels.AV_BT709 else str(int(tag)) for tag in tags)
        colours = (matrix, primaries, transfer, _RANGES.get(int(context.color_range), "unknown"))
        return Inspection(packets, stream.width, stream.height, float(stream.average_rate or 0), colours)


def read_video(path: Path, first: int | None = None) -> Frames:
    """Decode a clip that ffpdata wrote.

    Args:
        path: of the clip.
        first: number of frames to decode from its beginning; all by default.

    Returns:
        uint8 (T, H, W, 3) RGB.

    Raises:
        FfpdataError: the file is damaged, shorter than its header says, or has fewer frames than asked for.
    """
    return _read(path, channels=3, limit=first)


def read_first_frame(path: Path) -> Image:
    """Decode only the first frame of a clip that ffpdata wrote, uint8 (H, W, 3) RGB."""
    first: Image = _read(path, channels=3, limit=1)[0]
    return first


def read_masks(path: Path) -> Masks:
    """Decode masks written by `write_masks`: bool (T, H, W), equal to what was written."""
    return _read(path, channels=1) > 127


def read_gray(path: Path) -> NDArray[np.uint8]:
    """Decode a gray clip written by `write_gray`: uint8 (T, H, W), equal to what was written."""
    return _read(path, channels=1)


def write_video(path: Path, frames: Frames, fps: float, *, encoder: Encoder = DEFAULT) -> None:
    """Encode a clip.

    Args:
        path: mp4 to write, with any suffix.
        frames: uint8 (T, H, W, 3) RGB, T >= 1, H and W even.
        fps: frames per second.
        encoder: x264 preset or another of `media/encoders`; the default gives the clips of a dataset.

    Raises:
        FatalError: the disk is full or read-only.
        RetryableError: the encoder failed or took too long.
    """
    _check_array(frames, np.uint8, 4, "frames must be uint8 (T, H, W, 3) RGB")
    height, width, channels = frames.shape[1:]
    if channels != 3 or height % 2 or width % 2:
        raise ValueError(f"frames must be (T, H, W, 3) with even H and W, found {frames.shape}")
    _encode(path, frames, "rgb24", fps, ["-vf", _RGB_TO_BT709, *ARGUMENTS[encoder]], driver=encoder in HARDWARE)


def write_masks(path: Path, masks: Masks, fps: float) -> None:
    """Encode masks, bool (T, H, W), without loss. Errors as for `write_video`."""
    _check_array(masks, np.bool_, 3, "masks must be bool (T, H, W)")
    _encode(path, masks, "gray", fps, _GRAY, scale=255)


def write_gray(path: Path, maps: NDArray[np.uint8], fps: float) -> None:
    """Encode gray maps (depth), uint8 (T, H, W), without loss. Errors as for `write_video`."""
    _check_array(maps, np.uint8, 3, "gray maps must be uint8 (T, H, W)")
    _encode(path, maps, "gray", fps, _GRAY)


def png(image: Image) -> bytes:
    """Encode an image, uint8 (H, W, 3) RGB or (H, W) gray, as PNG."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise TypeError(f"an image must be uint8 (H, W, 3) RGB or (H, W), found {image.dtype} {image.shape}")
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    _, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    return data.tobytes()


@file_work()
def write_image(path: Path, image: Image) -> None:
    """Write a PNG, for any suffix of the path.

    Args:
        path: file to write.
        image: uint8 (H, W, 3) RGB or (H, W) gray.

    Raises:
        FatalError: the disk is full or read-only.
    """
    data = png(image)
    try:
        Path(path).write_bytes(data)
    except OSError as err:
        if disk_unusable(err):
            raise FatalError(f"cannot write {path}: {err.strerror}") from err
        raise


@file_work()
def read_image(path: Path) -> Image:
    """Read an image that ffpdata wrote, uint8 (H, W, 3) RGB; for foreign images use `conform_image` first.

    Raises:
        FfpdataError: it is damaged.
    """
    data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise FfpdataError(f"{path}: not a readable image ({data.size} bytes)")
    rgb: Image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    return rgb


def _check_array(array: NDArray[Any], dtype: type, ndim: int, message: str) -> None:
    if array.dtype != dtype or array.ndim != ndim or not array.size:
        raise TypeError(f"{message}, found {array.dtype} {array.shape}")


@file_work()
def _encode(
    path: Path,
    frames: NDArray[Any],
    pix_fmt: str,
    fps: float,
    codec: Sequence[str],
    *,
    scale: int = 1,
    driver: bool = False,
) -> None:
    """Pipe frames into ffmpeg one by one, then check the number of frames in the file."""
    count, height, width = frames.shape[:3]
    rate: Fraction = as_rate(fps)
    args = ["-f", "rawvideo", "-pix_fmt", pix_fmt, "-s", f"{width}x{height}", "-r", str(rate), "-i", "pipe:0"]
    args += [*codec, *REPRODUCIBLE, *CONTAINER, ffmpeg.file_url(path)]

    def feed() -> Iterator[memoryview]:
        for frame in frames:
            plain = np.ascontiguousarray(frame)
            yield (plain if scale == 1 else plain.view(np.uint8) * np.uint8(scale)).data

    try:
        limit = None if driver else ffmpeg.MEMORY_LIMIT
        ffmpeg.run(args, timeout_s=60 + 2 * count, feed=feed(), memory_limit=limit)
    except (ffmpeg.FfmpegError, ffmpeg.TooSlowError) as err:
        raise RetryableError(f"cannot encode {path.name}, {count} frames of {width}x{height}: {err}") from err
    found = video_info(path).frames
    if found != count:
        raise RetryableError(f"encoding {path.name} gave {found} frames instead of {count}")


def _open(path: Path) -> Any:
    import av

    try:
        return av.open(ffmpeg.file_url(path), format="mp4", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError) as err:
        raise FfpdataError(f"{path}: cannot be opened as mp4 ({err})") from err


def _stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise FfpdataError(f"{path}: has no video stream")
    return container.streams.video[0]


@decoding()
def _read(path: Path, channels: int, limit: int | None = None) -> NDArray[np.uint8]:
    """Decode into one preallocated array, so that no frame is in memory twice."""
    import av

    with _open(path) as container:
        stream = _stream(container, path)
        stream.thread_type = "AUTO" if limit is None else "SLICE"
        stream.thread_count = 0 if limit is None else 1
        expected = stream.frames if limit is None else limit
        if not expected:
            raise FfpdataError(f"{path}: its header tells no number of frames")
        shape = (expected, stream.height, stream.width)
        out = np.empty((*shape, 3) if channels == 3 else shape, np.uint8)
        converter = pixels.Converter(stream.width, stream.height)
        try:
            converter.copy(container.decode(stream), out, limit)
        except (av.error.FFmpegError, ValueError) as err:
            at = f"{converter.found} of {expected}"
            raise FfpdataError(f"{path}: cannot be decoded past frame {at} ({err})") from err
    if converter.found != expected:
        raise FfpdataError(f"{path}: has {converter.found} frames, its header says {expected}")
    return out
