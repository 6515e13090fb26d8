"""Hostile images, written byte by byte or with Pillow: small files that must be refused with a typed reason.

`hostile()` returns each file's bytes with the reasons that are right for it. No file has more than 600 KB.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"


def picture(width: int = 320, height: int = 240) -> Image.Image:
    """Coarse coloured blocks."""
    blocks = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(blocks, np.ones((height // 6, width // 8, 1), np.uint8)))


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def scan_bomb(scans: int = 6000, side: int = 6000) -> bytes:
    """A gray progressive JPEG: each scan is 50 bytes and says 'nothing' for all blocks, which all are visited.

    With the defaults 400 KB take 15 to 30 CPU seconds.
    """

    def segment(marker: int, data: bytes) -> bytes:
        return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data

    def table(kind: int, symbol: int) -> bytes:  # a Huffman table of one symbol, its code is '0'
        return segment(0xC4, bytes((kind, 1, *[0] * 15, symbol)))

    blocks = ((side + 7) // 8) ** 2
    runs = [min(blocks - at, 32767) for at in range(0, blocks, 32767)]
    bits = "".join("0" + format(max(run, 16384) - 16384, "014b") for run in runs)
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    head = b"\xff\xd8" + segment(0xDB, b"\0" + bytes([1]) * 64)
    head += segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\x01\x11\x00") + table(0x00, 0) + table(0x10, 0xE0)
    first = segment(0xDA, bytes((1, 1, 0, 0, 0, 0))) + bytes(blocks // 8 + 1)
    return head + first + (segment(0xDA, bytes((1, 1, 0, 1, 63, 0))) + data) * scans + b"\xff\xd9"


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, data: bytes = bytes(1000)) -> bytes:
    """An RGB PNG of any size, with chunks before its pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join((PNG, chunk(b"IHDR", head), *chunks, chunk(b"IDAT", zlib.compress(data, 9)), chunk(b"IEND", b"")))


def tiff(tags: Iterable[tuple[int, int, int, int]], following: int = 0, data: bytes = bytes(4096)) -> bytes:
    """A little-endian TIFF of one directory at 8; tags are (tag, type, count, value), `data` begins at 4096."""
    entries = list(tags)
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II\x2a\0" + struct.pack("<I", 8) + body + struct.pack("<I", following)).ljust(4096, b"\0") + data


def gray_tags(width: int, height: int, length: int, **other: int) -> list[tuple[int, int, int, int]]:
    """Tags of an uncompressed 8-bit gray TIFF of one strip."""
    bits, kind = other.get("bits", 8), other.get("kind", 1)
    return [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, other.get("compression", 1)),
        (262, 3, 1, 1), (273, 4, 1, other.get("at", 4096)), (277, 3, 1, other.get("samples", 1)),
        (278, 4, 1, height), (279, 4, 1, length), (339, 3, 1, kind),
    ]  # fmt: skip


def looped_tiff() -> bytes:
    """A TIFF whose second page is followed by the first."""
    two = saved(picture().convert("L"), "TIFF", save_all=True, append_images=[picture().convert("L")])
    first = struct.unpack_from("<I", two, 4)[0]
    count = struct.unpack_from("<H", two, first)[0]
    second = struct.unpack_from("<I", two, first + 2 + 12 * count)[0]
    count = struct.unpack_from("<H", two, second)[0]
    looped = bytearray(two)
    struct.pack_into("<I", looped, second + 2 + 12 * count, first)
    return bytes(looped)


def bmp_head(width: int, height: int) -> bytes:
    """A 24-bit BMP without pixels."""
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def hostile() -> dict[str, tuple[bytes, set[str]]]:
    """Return the bytes of every hostile image by its name, and the reasons that are right for it."""
    image = picture()
    jpeg, avif, webp = saved(image, "JPEG"), saved(image, "AVIF"), saved(image, "WEBP", lossless=True)
    long = zlib.compress(bytes(100 << 20), 9)
    frames: dict[str, Any] = {"save_all": True, "append_images": [picture().transpose(Image.Transpose.ROTATE_180)] * 3}
    dims = jpeg.find(b"\xff\xc0") + 5
    corrupt, too_large, still = {"corrupt"}, {"too_large"}, {"not_a_still"}
    return {
        "scans.jpg": (scan_bomb(), {"too_slow"}),
        "wide.jpg": (jpeg[:dims] + b"\xff\xdc\xff\xdc" + jpeg[dims + 4 :], too_large),
        "cut.jpg": (jpeg[: len(jpeg) // 2], corrupt),
        "only_a_head.jpg": (jpeg[:100], corrupt),
        "bomb.png": (png(60000, 60000), too_large),
        "above_the_limit.png": (png(6001, 6000), too_large),
        "no_size.png": (png(0, 0), corrupt),
        "profile.png": (png(400, 300, chunk(b"iCCP", b"icc\0\0" + long)), corrupt),
        "text.png": (png(400, 300, chunk(b"zTXt", b"Comment\0\0" + long)), corrupt),
        "long_text.png": (png(400, 300, chunk(b"iTXt", b"Comment\0\x01\0\0\0" + long)), corrupt),
        "texts.png": (png(400, 300, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000), 9))] * 90), corrupt),
        "short.png": (png(400, 300), corrupt),
        "endless_chunk.png": (PNG + struct.pack(">I", 0x7FFFFFFF) + b"IHDR", corrupt),
        "canvas.gif": (b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b"," + bytes(4) + b"\1\0\1\0\0;", too_large),
        "looped.tiff": (looped_tiff(), still),
        "giant_strip.tiff": (tiff(gray_tags(400, 300, 0xFFFFFFF0)), corrupt),
        "strip_outside.tiff": (tiff(gray_tags(400, 300, 120_000, at=0xFFFFF000)), corrupt),
        "wide.tiff": (tiff(gray_tags(100_000, 100_000, 4096)), too_large),
        "no_pixels.tiff": (tiff(gray_tags(400, 300, 4096, compression=8)), corrupt),
        "samples.tiff": (tiff(gray_tags(400, 300, 4096, samples=65535)), corrupt | {"format_not_supported"}),
        "no_tags.tiff": (tiff([]), corrupt),
        "wide.bmp": (bmp_head(50000, -50000), too_large),
        "short.bmp": (bmp_head(400, 400), corrupt),
        "broken.webp": (webp[:40] + bytes(200) + webp[240:], corrupt),
        "cut.webp": (webp[: len(webp) // 2], corrupt),
        "cut.avif": (avif[: len(avif) // 2], corrupt),
        "broken.avif": (avif[:-200] + bytes(200), corrupt),
        "many.webp": (saved(image, "WEBP", **frames), still),
        "many.png": (saved(image, "PNG", **frames), still),
        "many.avif": (saved(image, "AVIF", **frames), still),
        "many.tiff": (saved(image, "TIFF", compression="tiff_lzw", **frames), still),
        "line.png": (saved(Image.new("L", (1, 65535)), "PNG"), {"too_small"}),
        "icon.ico": (saved(picture(64, 48), "ICO"), {"not_an_image"}),
        "photo.heic": (struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(400), {"format_not_supported"}),
        "photo.jxl": (b"\xff\x0a" + bytes(400), {"format_not_supported"}),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 400 400\n", {"not_an_image"}),
    }  # fmt: skip
