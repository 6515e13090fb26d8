"""Formats are known by their first bytes, and HDR by its tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffpdata.core.errors import Reject
from ffpdata.media import image_kinds
from ffpdata.media.images import is_image, probe_image
from tests.media.bad_inputs import BadInput
from tests.media.hostile_images import chunk
from tests.media.stills import save


def test_hdr_stills_are_refused(tmp_path: Path, photo: np.ndarray) -> None:
    avif = save(tmp_path, Image.fromarray(photo), "a.avif").read_bytes()
    at = avif.index(b"colrnclx") + 10
    (tmp_path / "a.avif").write_bytes(avif[:at] + b"\0\x10" + avif[at + 2 :])  # PQ
    png = save(tmp_path, Image.fromarray(photo), "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(png[:33] + chunk(b"cICP", bytes((9, 18, 0, 1))) + png[33:])  # HLG
    for name in ("a.avif", "a.png"):
        with pytest.raises(Reject, match="hdr_not_supported"):
            probe_image(tmp_path / name)


def test_formats_are_known_by_their_first_bytes(
    tmp_path: Path, photo: np.ndarray, bad_files: dict[str, BadInput]
) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP"):
        assert (
            image_kinds.format_of(image_kinds.read_head(save(tmp_path, Image.fromarray(photo), "a", format=kind)))
            == kind
        )
    heads = {
        "HEIC": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
        "AVIF": b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif",
        "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n",
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
        "": b"\0\0\0\x18ftypisom\0\0\0\0isommp41",
    }
    assert {name: image_kinds.format_of(head) for name, head in heads.items()} == {name: name for name in heads}
    assert not is_image(bad_files["truncated"].path)
