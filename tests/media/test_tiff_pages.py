"""TIFFs of several pages and of rare colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.media.stills import conformed, save, tiff_of


def test_smaller_copies_in_a_tiff_are_no_pages(tmp_path: Path, photo: np.ndarray) -> None:
    expected = conformed(save(tmp_path, Image.fromarray(photo), "a.png"), tmp_path)
    with tifffile.TiffWriter(tmp_path / "a.tiff") as tiff:
        tiff.write(photo, photometric="rgb")
        tiff.write(np.ascontiguousarray(photo[::4, ::4]), photometric="rgb")
        tiff.write(np.ascontiguousarray(photo[::-1]), photometric="rgb", subfiletype=1)
    assert np.array_equal(conformed(tmp_path / "a.tiff", tmp_path), expected)


def test_rare_modes_are_the_same_picture(tmp_path: Path, photo: np.ndarray) -> None:
    from skimage.color import rgb2lab

    lab = rgb2lab(photo)
    bytes_of_lab = np.concatenate([lab[..., :1] * 255 / 100, lab[..., 1:] % 256], 2).round().astype(np.uint8)
    numbers = Image.fromarray(photo).quantize(200)
    table = np.array(numbers.getpalette("RGB") + [0] * 768, np.uint16)[:768].reshape(256, 3).T
    palette = {"data": np.asarray(numbers), "photometric": "palette"}
    kinds = {
        "lab": ({"data": bytes_of_lab, "photometric": "cielab"}, 4),
        "palette": ({**palette, "colormap": table * 257}, 6),
        "palette of bytes": ({**palette, "colormap": table}, 6),
    }
    expected = conformed(save(tmp_path, Image.fromarray(photo), "rgb.png"), tmp_path).astype(int)
    for name, (how, limit) in kinds.items():
        tifffile.imwrite(tmp_path / "a.tiff", **how)
        assert np.abs(conformed(tmp_path / "a.tiff", tmp_path) - expected).mean() < limit, name


@pytest.mark.parametrize(("mode", "colour"), [("LA", "minisblack"), ("RGBA", "rgb")])
def test_colours_that_were_multiplied_by_their_transparency(
    tmp_path: Path, photo: np.ndarray, mode: str, colour: str
) -> None:
    clear = Image.fromarray(photo).convert(mode)
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    expected = conformed(save(tmp_path, clear, "clear.png"), tmp_path).astype(int)
    multiplied = np.asarray(clear).astype(float)
    multiplied[..., :-1] *= multiplied[..., -1:] / 255
    values = multiplied.round().astype(np.uint8)
    path = tiff_of(tmp_path / "a.tiff", values, photometric=colour, extrasamples=["assocalpha"], planarconfig="contig")
    assert np.abs(conformed(path, tmp_path) - expected).max() <= 3
