"""Stills as files of any kind, and what `conform_image` makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from ffpdata.media import codec
from ffpdata.media.geometry import Geometry
from ffpdata.media.images import conform_image

SMALL = Geometry(width=160, height=96)


def conformed(src: Path, tmp_path: Path, **how: Any) -> np.ndarray:
    dst = tmp_path / "out.png"
    size = conform_image(src, dst, SMALL, **how).size
    image = codec.read_image(dst)
    assert image.shape == (*size[::-1], 3)
    return image


def save(tmp_path: Path, image: Image.Image, name: str, **how: Any) -> Path:
    path = tmp_path / name
    image.save(path, **how)
    return path


def tiff_of(path: Path, values: np.ndarray, **how: Any) -> Path:
    """Write an array as a TIFF of its own type, whatever that is."""
    tifffile.imwrite(path, values, **({"photometric": "minisblack"} | how))
    return path
