"""Every hostile image ends with its reason and within the limits, and the next image is decoded as if nothing was."""

from __future__ import annotations

import contextlib
import resource
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffpdata.core.errors import FfpdataError, Reject
from ffpdata.media import codec, image_decoder, images
from ffpdata.media.geometry import Geometry
from ffpdata.processes.helper_process import Helper, Limits
from tests.media import hostile_images

SMALL = Geometry(width=160, height=96)
FILES = hostile_images.hostile()


@pytest.fixture(scope="module", autouse=True)
def one_second() -> Iterator[None]:
    """A tenth of the CPU seconds, so that the tests are quick."""
    with pytest.MonkeyPatch.context() as patch:
        decoder = Helper(images._decoder.entry, Limits(cpu_s=1, memory=images.LIMITS.memory))
        patch.setattr(images, "_decoder", decoder)
        yield
        decoder.close()


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_image_ends_with_its_reason(tmp_path: Path, name: str) -> None:
    data, reasons = FILES[name]
    assert len(data) < 600_000
    (tmp_path / name).write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(Reject) as caught:
        images.conform_image(tmp_path / name, tmp_path / "out.png", SMALL)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert caught.value.reason in reasons, caught.value
    assert caught.value.detail
    assert after.ru_utime - before.ru_utime < 1, "the helper does the work"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_after_a_bomb_the_next_image_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.jpg").write_bytes(hostile_images.scan_bomb())
    hostile_images.picture().save(tmp_path / "good.png")
    with pytest.raises(Reject, match="1 CPU seconds"):
        images.conform_image(tmp_path / "bomb.jpg", tmp_path / "out.png", SMALL)
    start = time.monotonic()
    with pytest.raises(Reject, match="1 CPU seconds"):
        images.conform_image(tmp_path / "bomb.jpg", tmp_path / "out.png", SMALL)
    assert time.monotonic() - start < 1, "it is not tried again"
    assert images.conform_image(tmp_path / "good.png", tmp_path / "out.png", SMALL).source_size == (320, 240)


def test_an_image_that_needs_too_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Helper(images._decoder.entry, Limits(memory=256 << 20))
    monkeypatch.setattr(images, "_decoder", small)
    Image.new("RGB", (6000, 6000)).save(tmp_path / "a.bmp")
    with pytest.raises(Reject, match=r"too_large: .* more than 0\.25 GB"):
        images.conform_image(tmp_path / "a.bmp", tmp_path / "out.png", SMALL)
    small.close()


@pytest.mark.parametrize("kind", [1, 2, 3, 5, 12, 99])
@pytest.mark.parametrize("value", [0, 9, 0xFFFF, 0xFFFFFFF0])
def test_an_orientation_that_is_none_is_ignored(tmp_path: Path, kind: int, value: int) -> None:
    exif = b"Exif\0\0II\x2a\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x0112, kind, 1, value)
    hostile_images.picture().save(tmp_path / "a.jpg", exif=exif)
    conformed = images.conform_image(tmp_path / "a.jpg", tmp_path / "out.png", SMALL)
    assert conformed == ((160, 96), (320, 240))


def test_a_large_image_of_one_colour_is_an_image(tmp_path: Path) -> None:
    """35 KB that decode to 108 MB, within all limits."""
    (tmp_path / "a.png").write_bytes(hostile_images.png(6000, 6000, data=bytes(6000 * 18001)))
    start = time.process_time()
    assert images.conform_image(tmp_path / "a.png", tmp_path / "out.png", SMALL).size == (160, 96)
    assert time.process_time() - start < 1
    assert not codec.read_image(tmp_path / "out.png").any()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP"])
def test_any_byte_may_be_wrong(tmp_path: Path, kind: str) -> None:
    """A flipped bit or a cut leaves a picture or a typed reason."""
    whole = hostile_images.saved(hostile_images.picture(80, 60), kind)
    random = np.random.default_rng(5)
    path = tmp_path / "a"
    for number in range(60):
        data = bytearray(whole)
        if number % 4:
            for at in random.integers(0, random.choice([32, 256, len(data)]), 3):
                data[at % len(data)] ^= 1 << random.integers(8)
        else:
            del data[random.integers(1, len(data)) :]
        path.write_bytes(data)
        with contextlib.suppress(Reject):  # and no other error
            found = images.conform_image(path, tmp_path / "out.png", SMALL, min_side=1)
            assert found.source_size == images.probe_image(path)


def test_the_decoder_may_run_in_this_process_too(tmp_path: Path) -> None:
    hostile_images.picture().save(tmp_path / "a.png")
    request = {"do": "fit", "path": str(tmp_path / "a.png"), "max_pixels": 320 * 240, "size": (32, 16), "min_side": 1}
    found, pixels = image_decoder.answer(request)
    assert found == {"size": (32, 16), "source_size": (320, 240)}
    assert len(pixels) == 32 * 16 * 3
    with pytest.raises(Reject, match="too_large"):
        image_decoder.answer({**request, "max_pixels": 320 * 240 - 1})


def test_an_image_from_elsewhere_is_read_as_it_is(tmp_path: Path) -> None:
    picture = hostile_images.picture()
    picture.save(tmp_path / "a.png")
    assert np.array_equal(images.decode_image(tmp_path / "a.png"), np.asarray(picture))
    (tmp_path / "many.webp").write_bytes(FILES["many.webp"][0])
    assert images.decode_image(tmp_path / "many.webp").shape == (240, 320, 3)
    (tmp_path / "cut.jpg").write_bytes(FILES["cut.jpg"][0])
    with pytest.raises(FfpdataError, match=r"not a readable image \(\d+ bytes\): corrupt"):
        images.decode_image(tmp_path / "cut.jpg")
