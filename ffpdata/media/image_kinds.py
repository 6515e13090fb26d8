"""What an image file says of itself in its first bytes: its format, and whether it is HDR."""

from __future__ import annotations

from pathlib import Path

HEAD_BYTES = 1 << 16
"""Read of a file to learn what it is."""

TIFF_HEADS = (b"II\x2a\x00", b"MM\x00\x2a", b"II\x2b\x00", b"MM\x00\x2b")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_HDR_TRANSFERS = (16, 18)
"""PQ and HLG, by ITU-T H.273."""


def read_head(path: Path) -> bytes:
    """Return the first `HEAD_BYTES` of a file."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def format_of(head: bytes) -> str:
    """Return the name of an image format by the signature that a file begins with; empty where it has none.

    GIF is left out: it may be a clip.
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    if head.startswith(TIFF_HEADS):
        return "TIFF"
    if head.startswith((b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n")):
        return "JPEG XL"
    if head.startswith((b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  \r\n\x87\n")):
        return "JPEG 2000"
    if head[4:8] == b"ftyp":
        return _format_of_boxes(head)
    return ""


def _format_of_boxes(head: bytes) -> str:
    """AVIF or HEIC, by the brands in the `ftyp` box; empty where it is a video."""
    end = min(int.from_bytes(head[:4], "big"), 256)
    major, others = head[8:12], [head[i : i + 4] for i in range(16, end, 4)]
    if major in _AVIF_BRANDS or (major in _HEIF_BRANDS and any(brand in _AVIF_BRANDS for brand in others)):
        return "AVIF"
    return "HEIC" if major in _HEIF_BRANDS else ""


def is_hdr(head: bytes) -> bool:
    """Return whether an AVIF or PNG declares PQ or HLG: shown as if it were SDR it is flat and dark."""
    if format_of(head) == "PNG":
        at = head.find(b"cICP", 0, max(head.find(b"IDAT"), 0))
        return at > 0 and head[at + 5] in _HDR_TRANSFERS
    if format_of(head) == "AVIF" and b"tmap" not in head:  # with a tone map, the picture itself is SDR
        at = head.find(b"colrnclx")
        return at > 0 and int.from_bytes(head[at + 10 : at + 12], "big") in _HDR_TRANSFERS
    return False
