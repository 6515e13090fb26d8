"""Deep pixels become the picture that was meant, or are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffpdata.core.errors import Reject
from tests.media.hostile_images import gray_tags, tiff
from tests.media.stills import conformed, save, tiff_of


def shades(width: int = 320, height: int = 240) -> np.ndarray:
    """A picture of soft gray shapes with all values from 0 to 255, uint8 (H, W)."""
    y, x = np.mgrid[:height, :width]
    waves = np.sin(x / 31) + np.sin(y / 17) + np.sin((x + y) / 43)
    return ((waves - waves.min()) / np.ptp(waves) * 255).round().astype(np.uint8)


GRAY = shades()
DEEP = {
    "uint16": (GRAY.astype(np.uint16) * 257, {}),
    "uint16 big-endian": (GRAY.astype(np.uint16) * 257, {"byteorder": ">"}),
    "uint16 white is zero": (65535 - GRAY.astype(np.uint16) * 257, {"photometric": "miniswhite"}),
    "uint16 of 8 bits": (GRAY.astype(np.uint16), {}),
    "int16 of 8 bits": (GRAY.astype(np.int16), {}),
    "int32 of 8 bits": (GRAY.astype(np.int32), {}),
    "uint32 of 8 bits": (GRAY.astype(np.uint32), {}),
    "int32 of 16 bits": (GRAY.astype(np.int32) * 257, {}),
    "float 0..1": (GRAY.astype(np.float32) / 255, {}),
    "float 0..1 white is zero": (1 - GRAY.astype(np.float32) / 255, {"photometric": "miniswhite"}),
    "float 0..1 with overshoot": ((GRAY.astype(np.float32) / 255 - 0.5) * 1.02 + 0.5, {}),
    "float 0..255": (GRAY.astype(np.float32), {}),
    "float 0..65535": (GRAY.astype(np.float32) * 257, {}),
    "uint8 white is zero": (255 - GRAY, {"photometric": "miniswhite"}),
    "rgb of 16 bits": (np.repeat(GRAY.astype(np.uint16)[..., None] * 257, 3, 2), {"photometric": "rgb"}),
}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_pixels_are_scaled_by_their_range(tmp_path: Path, kind: str) -> None:
    expected = conformed(save(tmp_path, Image.fromarray(GRAY), "gray.png"), tmp_path).astype(int)
    values, how = DEEP[kind]
    got = conformed(tiff_of(tmp_path / "deep.tiff", values, **how), tmp_path)
    assert np.abs(got - expected).max() <= (6 if "overshoot" in kind else 1)


def with_value(values: np.ndarray, value: float) -> np.ndarray:
    changed = values.copy()
    changed[7, 9] = value
    return changed


UNIT = GRAY.astype(np.float32) / 255
UNCLEAR = {
    "12 bits in 16": (GRAY.astype(np.uint16) * 16, {}, "unclear_range"),
    "labels": ((GRAY // 16).astype(np.int32), {}, "unclear_range"),
    "signed": (GRAY.astype(np.int16) - 128, {}, "unclear_range"),
    "signed bytes": ((GRAY // 2).astype(np.int8), {}, "unclear_range"),
    "32 bits": (GRAY.astype(np.uint32) << 24, {}, "unclear_range"),
    "hdr": (with_value(UNIT, 900.0), {}, "unclear_range"),
    "bright hdr": (UNIT * 12, {}, "unclear_range"),
    "dark hdr": (with_value(UNIT, 200.0), {}, "unclear_range"),
    "elevation": (UNIT * 4000 - 200, {}, "unclear_range"),
    "nan": (with_value(UNIT, np.nan), {}, "not_finite"),
    "infinite": (with_value(UNIT, -np.inf), {}, "not_finite"),
    "double": (UNIT.astype(np.float64), {}, "format_not_supported"),
    "half": (UNIT.astype(np.float16), {}, "format_not_supported"),
    "float rgb": (np.repeat(UNIT[..., None], 3, 2), {"photometric": "rgb"}, "format_not_supported"),
    "int rgb": (np.repeat(GRAY[..., None].astype(np.int32), 3, 2), {"photometric": "rgb"}, "format_not_supported"),
    "complex": (UNIT.astype(np.complex64), {}, "format_not_supported"),
    "pages": (np.stack([GRAY] * 3), {}, "not_a_still"),
}


@pytest.mark.parametrize("kind", UNCLEAR)
def test_pixels_of_unclear_meaning_are_refused(tmp_path: Path, kind: str) -> None:
    values, how, reason = UNCLEAR[kind]
    with pytest.raises(Reject, match=r"write it as|save the page") as caught:
        conformed(tiff_of(tmp_path / "a.tiff", values, **how), tmp_path)
    assert caught.value.reason == reason


def test_a_black_picture_is_black(tmp_path: Path) -> None:
    for kind in (np.uint16, np.int32, np.float32):
        assert not conformed(tiff_of(tmp_path / "a.tiff", np.zeros((240, 320), kind)), tmp_path).any()


def test_twelve_bits_are_twelve_bits(tmp_path: Path) -> None:
    """Where the file says so, 4095 is white; two pixels lie in three bytes."""
    values = GRAY.astype(np.uint16) * 16 + GRAY // 16
    left, right = values[:, ::2], values[:, 1::2]
    packed = np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], 2).astype(np.uint8).tobytes()
    (tmp_path / "a.tiff").write_bytes(tiff(gray_tags(320, 240, len(packed), bits=12), data=packed))
    expected = conformed(save(tmp_path, Image.fromarray(GRAY), "gray.png"), tmp_path).astype(int)
    assert np.abs(conformed(tmp_path / "a.tiff", tmp_path) - expected).max() <= 1
