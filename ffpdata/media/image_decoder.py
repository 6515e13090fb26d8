"""Decodes foreign images with Pillow. It runs in a helper process, since an image may hang, crash or fill the memory.

`ffpdata.media.images` asks it; only tests call it directly. It imports little, so that a helper starts quickly.
"""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import AvifImagePlugin, Image, ImageOps, UnidentifiedImageError

from ffpdata.core.errors import Reject
from ffpdata.media import image_kinds, tiff_pages

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there is a helper per core, and threads take address space

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "TIFF", "GIF")
BACKGROUND = (255, 255, 255)
"""RGB behind transparent pixels: white."""

_SIDEWAYS = (5, 6, 7, 8)
"""Values of the EXIF orientation tag that exchange width and height."""
_ORIENTATION = 0x0112
_ONE_PICTURE = ("PNG", "WEBP", "AVIF")
"""Formats whose second picture makes an animation."""

_DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, OverflowError, AttributeError,
    ZeroDivisionError, AssertionError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders raise for damaged files."""


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Answer `ffpdata.media.images`.

    Args:
        request: `path`, `max_pixels`, and what is wanted, `do`: `probe`, the size of a source image; `fit`, its picture
            made to cover `size`, the landscape size, or (`fit`: `whole`, `pad`) to fit into it, where no side is below
            `min_side`; `read`, the picture as it is.

    Returns:
        `source_size` (width, height) of the image as displayed, and `size` of the picture whose RGB bytes follow.

    Raises:
        Reject: as `images.conform_image`.
    """
    path, what = Path(request["path"]), request["do"]
    with opened(path, request["max_pixels"]) as image:
        if what != "read":
            check_source(image, path)
        if what == "probe":
            return {"source_size": _displayed_size(image)}, b""
        if what == "fit":
            picture, source_size = fitted(image, request["size"], request["min_side"], request.get("fit", "crop"))
        else:
            picture = to_rgb(image, tiff_pages.layout_of(image))
            source_size = picture.size
        return {"size": picture.size, "source_size": source_size}, picture.tobytes()


@contextlib.contextmanager
def opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image; errors of its decoder inside the block become a `Reject`."""
    try:
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            image = Image.open(file, formats=FORMATS)
            if image.width * image.height > max_pixels:
                pixels = f"{image.width}x{image.height} is {image.width * image.height} pixels"
                raise Reject("too_large", f"{pixels}, the limit is {max_pixels}: scale it down")
            yield image
    except UnidentifiedImageError:
        raise _unidentified(path) from None
    except Image.DecompressionBombError as err:
        raise Reject("too_large", f"{err}; the limit is {max_pixels}") from None
    except _DAMAGE as err:
        raise Reject("corrupt", f"cannot be decoded: {err or type(err).__name__}") from None


def _unidentified(path: Path) -> Reject:
    """Return why no decoder takes a file."""
    listed, found = ", ".join(FORMATS), image_kinds.format_of(image_kinds.read_head(path))
    if found == "TIFF":
        return tiff_pages.unsupported(path)
    if found in FORMATS:
        return Reject("corrupt", f"it begins like {found} and cannot be read as such: save it anew")
    if found:
        return Reject("format_not_supported", f"it is {found}, which is not read: convert it to one of {listed}")
    return Reject("not_an_image", f"none of the formats {listed} is found in it")


def check_source(image: Image.Image, path: Path) -> None:
    """Refuse HDR, an animation, and a document of several pages, of which it is not known which picture was meant."""
    if image_kinds.is_hdr(image_kinds.read_head(path)):
        raise Reject("hdr_not_supported", "the image is HDR (PQ or HLG): export it as SDR")
    if image.format in _ONE_PICTURE:
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            advice = "save the frame that you want as PNG, or convert it to a video"
            raise Reject("not_a_still", f"it is an animation of {frames} frames: {advice}")
    elif image.format == "TIFF" and getattr(image, "is_animated", False) and (pages := tiff_pages.count(path)) > 1:
        at_least = "at least " if pages >= tiff_pages.MAX_PAGES else ""
        raise Reject("not_a_still", f"it has {at_least}{pages} pages: save the page that you want as a file of its own")


def _displayed_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if image.getexif().get(_ORIENTATION) in _SIDEWAYS else (width, height)


def fitted(
    image: Image.Image, size: tuple[int, int], min_side: int, fit: str = "crop"
) -> tuple[Image.Image, tuple[int, int]]:
    """Return the picture in RGB, turned upright, scaled to cover `size` (turned for a portrait) and cropped.

    With `fit` `whole` it is scaled to fit into `size`, which is not turned; with `pad` it stands in the middle of
    `BACKGROUND` of that size.

    Returns:
        The picture, and the size of the image upright.
    """
    if min(image.size) < min_side:
        found = f"{image.width}x{image.height}"
        raise Reject("too_small", f"{found}, the shorter side must have {min_side} pixels: find a larger version")
    image.seek(0)
    tiff_pages.mend_palette(image)
    picture = to_rgb(ImageOps.exif_transpose(image), tiff_pages.layout_of(image))
    if fit != "crop":
        small = ImageOps.contain(picture, (size[0], size[1]), Image.Resampling.LANCZOS)
        if fit == "whole":
            return small, picture.size
        canvas = Image.new("RGB", (size[0], size[1]), BACKGROUND)
        canvas.paste(small, ((canvas.width - small.width) // 2, (canvas.height - small.height) // 2))
        return canvas, picture.size
    width, height = size[::-1] if picture.height > picture.width else size
    scale = max(width / picture.width, height / picture.height)
    left, top = (picture.width - width / scale) / 2, (picture.height - height / scale) / 2
    window = (left, top, picture.width - left, picture.height - top)
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=window), picture.size


def to_rgb(image: Image.Image, layout: tiff_pages.Layout) -> Image.Image:
    """Return 8-bit RGB: deep pixels scaled by their range, colour profiles applied, transparency over `BACKGROUND`."""
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_to_rgb(image, layout)
    if layout.signed_bytes:
        raise Reject("unclear_range", "its values are signed bytes: write it as unsigned bytes, 0 to 255")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    profile = image.info.get("icc_profile")
    if image.mode in ("La", "RGBa"):  # multiplied by their transparency
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(paper, layer).convert("RGB")
    return _to_srgb(image, profile)


def _deep_to_rgb(image: Image.Image, layout: tiff_pages.Layout) -> Image.Image:
    import numpy as np

    from ffpdata.media.image_range import to_8_bits

    values = np.asarray(image)
    if layout.unsigned_32:  # Pillow reads them as signed
        values = values.view(np.uint32)
    gray = to_8_bits(values, bits=layout.bits, inverted=layout.white_is_zero)
    return Image.fromarray(gray).convert("RGB")


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    return _to_srgb_from(image, ImageCms.createProfile("LAB"))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    from PIL import ImageCms

    if profile and image.mode in ("RGB", "CMYK"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            return _to_srgb_from(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    return image.convert("RGB")


def _to_srgb_from(image: Image.Image, profile: Any) -> Image.Image:
    from PIL import ImageCms

    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    if converted is None:
        raise ValueError("the colour profile gives no picture")
    return converted
