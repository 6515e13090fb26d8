"""Foreign images: read their size, and convert them to the dataset's geometry.

A foreign image may hold a few hundred kilobytes that decode for half a minute, or to gigabytes, or crash its decoder.
So it is decoded in a helper process with limits of time and memory (`image_decoder`); this module asks it.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ffpdata.core.errors import FfpdataError, Reject, RetryableError
from ffpdata.media import codec, image_kinds
from ffpdata.media.geometry import Geometry
from ffpdata.media.probe import MAX_PIXELS, check_regular_file
from ffpdata.processes.helper_process import CpuLimitError, CrashError, Helper, Limits, MemoryLimitError

Fit = Literal["crop", "whole", "pad"]
"""How an image comes into a size: `crop` covers it, `whole` fits into it, `pad` does so on a white canvas."""

LIMITS = Limits(cpu_s=10, wall_s=120, memory=2 << 30)
"""Of one image. The largest ones that are accepted, 36 megapixels, take 1 to 3 CPU seconds and at most 1.1 GB."""

_decoder = Helper("ffpdata.media.image_decoder:answer", LIMITS)

_too_slow: dict[tuple[int, ...], str] = {}
"""Files that reached the CPU limit: a style image is asked for with every clip, and need not take it every time."""


class ConformedImage(NamedTuple):
    """Sizes (width, height) in pixels: of the written image, and of its source as displayed."""

    size: tuple[int, int]
    source_size: tuple[int, int]


def is_image(path: Path) -> bool:
    """Return whether a file begins as a still image does, whatever its name; a GIF may be a clip and does not count.

    Raises:
        Reject: `missing_file`, `unreadable`, `not_a_regular_file`, `empty_file`.
    """
    return bool(image_kinds.format_of(image_kinds.read_head(check_regular_file(path))))


def probe_image(path: Path) -> tuple[int, int]:
    """Return width and height of an image as displayed, from its header.

    Args:
        path: a local PNG, JPEG, WebP, AVIF, BMP, TIFF or GIF file, whatever its name ends in.

    Raises:
        Reject: `missing_file`, `unreadable`, `not_a_regular_file`, `empty_file`, `not_an_image`,
            `format_not_supported` (HEIC, JPEG XL, TIFFs of rare pixels), `not_a_still` (an animation, several pages),
            `hdr_not_supported`, `too_large`, `too_slow`, `corrupt` (also when the decoder crashes on it).
        RetryableError: it was not read within `LIMITS.wall_s`, or the decoder was killed from outside.
    """
    answer, _ = _ask("probe", path)
    width, height = answer["source_size"]
    return width, height


def conform_image(
    src: Path, dst: Path, geometry: Geometry, *, min_side: int = 240, fit: Fit = "crop", size: tuple[int, int] = (0, 0)
) -> ConformedImage:
    """Write an image as PNG of exactly the geometry's size, turned where the image is portrait; or all of the image.

    The image is rotated by its EXIF tag, converted to 8-bit sRGB, composited over white where transparent, scaled
    (Lanczos) to cover the target and cropped at its centre. With another `fit` it is scaled to fit into `size`. Gray of
    16 or 32 bits or floats is scaled by the range that its values show. For an animated GIF, the first frame is used.

    Args:
        src: image as for `probe_image`.
        dst: PNG to write. Nothing appears under this name before it is complete.
        geometry: gives the size.
        min_side: shortest accepted side in pixels.
        fit: `crop`; `whole`, all of the image at its own shape; or `pad`, the same in the middle of a white canvas.
        size: for the last two: (width, height) of the canvas in pixels, in place of the geometry's.

    Raises:
        Reject: as `probe_image`, and `too_small`, `unclear_range`, `not_finite`.
        RetryableError: as `probe_image`.
        FatalError: the disk is full or read-only.
    """
    box = (geometry.width, geometry.height) if fit == "crop" else size
    answer, pixels = _ask("fit", src, size=list(box), min_side=min_side, fit=fit)
    width, height = answer["size"]
    dst = Path(dst).absolute()
    temporary = dst.with_name(f".{dst.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        codec.write_image(temporary, np.frombuffer(pixels, np.uint8).reshape(height, width, 3))
        temporary.replace(dst)
    finally:
        temporary.unlink(missing_ok=True)
    return ConformedImage((width, height), tuple(answer["source_size"]))


def decode_image(path: Path) -> codec.Image:
    """Return the picture of a file that came from elsewhere, uint8 (H, W, 3) RGB, as it is.

    `codec.read_image` is quicker, for files that this run wrote.

    Of several pictures, the first is taken.

    Raises:
        FfpdataError: it cannot be decoded, or not within the limits.
    """
    try:
        answer, pixels = _ask("read", path)
    except Reject as err:
        size = path.stat().st_size if path.exists() else 0
        raise FfpdataError(f"{path}: not a readable image ({size} bytes): {err}") from err
    width, height = answer["size"]
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def _ask(what: str, path: Path, **more: Any) -> tuple[dict[str, Any], bytearray]:
    """Have the helper open an image; what its limits end becomes a rejection, as it would end so again."""
    path = check_regular_file(path)
    status = path.stat()
    file = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if file in _too_slow:
        raise Reject("too_slow", _too_slow[file])
    try:
        return _decoder.ask({"do": what, "path": str(path), "max_pixels": MAX_PIXELS, **more})
    except CpuLimitError as err:
        advice = "save it anew with an image editor, as a plain JPEG or PNG"
        _too_slow[file] = f"decoding was stopped: {err}; {advice}"
        raise Reject("too_slow", _too_slow[file]) from None
    except MemoryLimitError as err:
        raise Reject("too_large", f"decoding was stopped: {err}; scale it down") from None
    except CrashError as err:
        raise Reject("corrupt", f"the decoder crashed on it: {err}") from None
    except RetryableError as err:
        raise RetryableError(f"decoding {path.name}: {err}") from err
