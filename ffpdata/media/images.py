"""Foreign images: read their size, and convert them to the dataset's geometry."""

from __future__ import annotations

import contextlib
import io
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.core.errors import Reject
from ffpdata.media import codec
from ffpdata.media.geometry import Geometry
from ffpdata.media.probe import MAX_PIXELS, check_regular_file

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
BACKGROUND = (255, 255, 255)
"""RGB behind transparent pixels: white."""

_SIDEWAYS = (5, 6, 7, 8)
"""Values of the EXIF orientation tag that exchange width and height."""
_ORIENTATION = 0x0112


def probe_image(path: Path) -> tuple[int, int]:
    """Return width and height of an image as displayed, from its header.

    Args:
        path: a local PNG, JPEG, WebP, BMP, TIFF or GIF file, whatever its name ends in.

    Raises:
        Reject: `missing_file`, `unreadable`, `not_a_regular_file`, `empty_file`, `not_an_image`, `too_large`,
            `corrupt`.
    """
    with _open_image(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(_ORIENTATION) in _SIDEWAYS else (width, height)


def conform_image(src: Path, dst: Path, geometry: Geometry, *, min_side: int = 240) -> tuple[int, int]:
    """Write an image as PNG of exactly the geometry's size, turned where the image is portrait.

    The image is rotated by its EXIF tag, converted to 8-bit sRGB, composited over white where transparent, scaled
    (Lanczos) to cover the target and cropped at its centre. For an animation, the first frame is used.

    Args:
        src: image as for `probe_image`.
        dst: PNG to write. Nothing appears under this name before it is complete.
        geometry: gives the size.
        min_side: shortest accepted side in pixels.

    Returns:
        (width, height) of the written image, pixels.

    Raises:
        Reject: as `probe_image`, and `too_small`.
        FatalError: the disk is full or read-only.
    """
    from PIL import Image, ImageOps

    with _open_image(src) as image:
        image.seek(0)
        picture = _to_rgb(ImageOps.exif_transpose(image))
    if min(picture.size) < min_side:
        found = f"{picture.width}x{picture.height}"
        raise Reject("too_small", f"{found}, the shorter side must have {min_side} pixels: find a larger version")
    width, height = geometry.size_for(*picture.size)
    scale = max(width / picture.width, height / picture.height)
    left, top = (picture.width - width / scale) / 2, (picture.height - height / scale) / 2
    window = (left, top, picture.width - left, picture.height - top)
    fitted = picture.resize((width, height), Image.Resampling.LANCZOS, box=window)
    dst = Path(dst).absolute()
    temporary = dst.with_name(f".{dst.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        codec.write_image(temporary, np.asarray(fitted))
        temporary.replace(dst)
    finally:
        temporary.unlink(missing_ok=True)
    return width, height


@contextlib.contextmanager
def _open_image(path: Path) -> Iterator[Any]:
    """Open an image; errors of its decoder inside the block become a `Reject`."""
    from PIL import Image, UnidentifiedImageError

    path = check_regular_file(path)
    try:
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            image = Image.open(file, formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                pixels = f"{image.width}x{image.height} is {image.width * image.height} pixels"
                raise Reject("too_large", f"{pixels}, the limit is {MAX_PIXELS}: scale it down")
            yield image
    except UnidentifiedImageError:
        raise Reject("not_an_image", f"none of the formats {', '.join(FORMATS)} is found in it") from None
    except Image.DecompressionBombError as err:
        raise Reject("too_large", f"{err}; the limit is {MAX_PIXELS}") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, OverflowError) as err:
        # Pillow's decoders raise any of these for damaged files
        raise Reject("corrupt", f"cannot be decoded: {err}") from None


def _to_rgb(image: Image) -> Image:
    """Return 8-bit RGB: 16-bit gray scaled, colour profiles applied, transparency composited over `BACKGROUND`."""
    import PIL.Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        top = 1.0 if image.mode == "F" else 65535.0
        return PIL.Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8)).convert("RGB")
    profile = image.info.get("icc_profile")
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        paper = PIL.Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = PIL.Image.alpha_composite(paper, layer).convert("RGB")
    return _to_srgb(image, profile)


def _to_srgb(image: Image, profile: bytes | None) -> Image:
    from PIL import ImageCms

    if profile and image.mode in ("RGB", "CMYK"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    return image.convert("RGB")
