"""What only TIFF can do: pages, and pixels of any type."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImagePalette
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    PHOTOMETRIC_INTERPRETATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    ImageFileDirectory_v2,
)

from ffpdata.core.errors import Reject

MAX_PAGES = 20
"""Pages that are looked at."""
_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_TYPES = {_UNSIGNED: "unsigned integer", _SIGNED: "signed integer", _FLOAT: "float"}
_WHITE_IS_ZERO = 0
_BIG_TIFF = 43
_DAMAGE = (EOFError, OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, struct.error)


class Layout(NamedTuple):
    """How a TIFF stores the samples of a pixel.

    Attributes:
        bits: of the first sample.
        kind: 1 unsigned integer, 2 signed integer, 3 float.
        white_is_zero: 0 is white.
    """

    bits: int = 0
    kind: int = _UNSIGNED
    white_is_zero: bool = False

    @property
    def signed_bytes(self) -> bool:
        """Signed 8-bit samples, which Pillow reads as unsigned."""
        return (self.bits, self.kind) == (8, _SIGNED)

    @property
    def unsigned_32(self) -> bool:
        """Unsigned 32-bit samples, which Pillow reads as signed."""
        return (self.bits, self.kind) == (32, _UNSIGNED)


def layout_of(image: Image.Image) -> Layout:
    """Return the layout of an image as Pillow opened it; the default for all formats but TIFF."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    if tags is None:
        return Layout()
    white_is_zero = tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO
    return Layout(_first(tags, BITSPERSAMPLE), _first(tags, SAMPLEFORMAT), white_is_zero)


def _first(tags: Any, tag: int) -> int:
    value = tags.get(tag, 1)
    return int(value[0] if isinstance(value, tuple) else value)


def mend_palette(image: Any) -> None:
    """Set the palette of an image that was not loaded yet anew, where its colours are bytes in place of 16 bits."""
    colours = image.tag_v2.get(COLORMAP) if image.format == "TIFF" and image.mode in ("P", "PA") else None
    if colours and max(colours) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))


def count(path: Path) -> int:
    """Count the pages of a TIFF that show a picture of their own, at most `MAX_PAGES`.

    Smaller copies and masks are no pages. A later page that cannot be read is none either.
    """
    with Image.open(path, formats=["TIFF"]) as image:
        width, height = image.size
        pages = 1
        for number in range(1, MAX_PAGES):
            try:
                image.seek(number)
            except _DAMAGE:
                break
            copy = image.width * 2 <= width and image.height * 2 <= height
            marked = _first(image.tag_v2, _SUBFILE_TYPE) & _REDUCED_OR_MASK if _SUBFILE_TYPE in image.tag_v2 else 0
            pages += not (copy or marked)
    return pages


def unsupported(path: Path) -> Reject:
    """Return why Pillow takes no TIFF of this layout: it is damaged, or of pixels that it cannot read."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            head += file.read(8) if head[2] == _BIG_TIFF or head[3] == _BIG_TIFF else b""
            tags = ImageFileDirectory_v2(head)
            file.seek(tags.next)
            tags.load(file)
        bits, kind = _first(tags, BITSPERSAMPLE), _first(tags, SAMPLEFORMAT)
        samples = _first(tags, SAMPLESPERPIXEL)
    except _DAMAGE as err:
        return Reject("corrupt", f"it begins like TIFF and cannot be read as such: {err}")
    if PHOTOMETRIC_INTERPRETATION not in tags:
        return Reject("corrupt", "it is a TIFF without the tags that say what its pixels are")
    pixels = f"{samples} x {bits}-bit {_TYPES.get(kind, f'type {kind}')}"
    advice = "write it as RGB or gray of 8 or 16 bits, unsigned"
    return Reject("format_not_supported", f"its pixels are {pixels}, which is not read: {advice}")
