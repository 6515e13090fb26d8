import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from ffpdata.core.errors import Reject
from ffpdata.media.images import conform_image, is_image, probe_image
from tests.media.hostile_images import chunk
from tests.media.stills import SMALL, conformed, save


def test_an_image_is_scaled_to_cover_and_cropped_at_its_centre(tmp_path, photo):
    got = conformed(save(tmp_path, Image.fromarray(photo), "p.png"), tmp_path)
    assert got.shape == (96, 160, 3)
    expected = np.asarray(
        Image.fromarray(photo).resize((160, 96), Image.Resampling.LANCZOS, box=(0, 20, 600, 380))
    )  # 600x360 of 600x400
    assert np.array_equal(got, expected)


def test_portrait_images_get_the_turned_size(tmp_path, photo):
    path = save(tmp_path, Image.fromarray(photo.transpose(1, 0, 2)), "p.png")
    assert probe_image(path) == (400, 600)
    assert conformed(path, tmp_path).shape == (160, 96, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied(tmp_path, photo, orientation):
    upright = Image.fromarray(photo)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path, stored, "p.png", exif=exif)
    assert probe_image(path) == (600, 400)
    assert np.array_equal(conformed(path, tmp_path), conformed(save(tmp_path, upright, "u.png"), tmp_path))


def test_every_kind_of_pixel_becomes_the_same_picture(tmp_path, photo):
    rgb = Image.fromarray(photo)
    gray = rgb.convert("L")
    kinds = {
        "jpeg": save(tmp_path, rgb, "a.jpg", quality=95),
        "webp": save(tmp_path, rgb, "a.webp", quality=95),
        "bmp": save(tmp_path, rgb, "a.bmp"),
        "tiff": save(tmp_path, rgb, "a.tiff"),
        "palette": save(tmp_path, rgb.quantize(256), "palette.png"),
        "gif": save(tmp_path, rgb.quantize(256), "a.gif", save_all=True, append_images=[Image.new("P", rgb.size)]),
        "cmyk": save(tmp_path, rgb.convert("CMYK"), "cmyk.jpg", quality=95),
        "alpha": save(tmp_path, Image.merge("RGBA", (*rgb.split(), Image.new("L", rgb.size, 255))), "alpha.png"),
        "wrong_name": save(tmp_path, rgb, "image.txt", format="PNG"),
    }
    expected = conformed(save(tmp_path, rgb, "rgb.png"), tmp_path).astype(int)
    for name, path in kinds.items():
        assert np.abs(conformed(path, tmp_path) - expected).mean() < 6, name
    expected = conformed(save(tmp_path, gray, "gray.png"), tmp_path).astype(int)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    for name, path in {"16 bit": save(tmp_path, deep, "deep.png"), "1 bit": save(tmp_path, gray, "g.jpg")}.items():
        assert np.abs(conformed(path, tmp_path) - expected).mean() < 3, name


def test_transparency_shows_white_paper(tmp_path):
    clear = Image.new("RGBA", (320, 240), (10, 20, 30, 0))
    clear.paste((200, 0, 0, 255), (0, 0, 160, 240))
    got = conformed(save(tmp_path, clear, "a.png"), tmp_path)
    assert got[48, 10].tolist() == [200, 0, 0]
    assert got[48, 150].tolist() == [255, 255, 255]


def test_colour_profiles_are_applied_and_broken_ones_ignored(tmp_path):
    image = Image.new("RGB", (320, 240), (200, 100, 50))
    plain = conformed(save(tmp_path, image, "plain.png"), tmp_path)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(conformed(save(tmp_path, image, "s.png", icc_profile=srgb), tmp_path).astype(int) - plain).max() <= 1
    assert np.array_equal(conformed(save(tmp_path, image, "bad.png", icc_profile=b"nonsense"), tmp_path), plain)


def png_header(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_every_bad_image_ends_with_its_reason(tmp_path, photo):
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    whole = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG")
    files = {
        "bomb.png": (png_header(60000, 60000), "too_large"),
        "large.png": (png_header(16000, 16000), "too_large"),
        "cut.png": (whole[: len(whole) // 2], "corrupt"),
        "cut.jpg": (buffer.getvalue()[:5000], "corrupt"),
        "damaged.png": (whole[:3000] + bytes(500) + whole[3500:], "corrupt"),
        "short.png": (png_header(400, 400), "corrupt"),
        "text.png": (b"no image at all\n" * 100, "not_an_image"),
        "script.svg": (b"<svg xmlns='http://www.w3.org/2000/svg' width='400' height='400'></svg>", "not_an_image"),
        "eps.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 400 400\n", "not_an_image"),
        "empty.png": (b"", "empty_file"),
        "small.png": (None, "too_small"),
    }
    save(tmp_path, Image.new("RGB", (100, 1000)), "small.png")
    wrong = {}
    for name, (data, reason) in files.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(Reject) as caught:
            conform_image(tmp_path / name, tmp_path / "out.png", SMALL)
        if caught.value.reason != reason or not caught.value.detail:
            wrong[name] = repr(caught.value)
    assert wrong == {}
    assert not (tmp_path / "out.png").exists()
    assert not list(tmp_path.glob("*.tmp"))


def test_what_is_no_regular_file_is_not_opened(bad_files, tmp_path):
    for name in ("fifo", "directory", "device", "missing", "socket"):
        with pytest.raises(Reject) as caught:
            probe_image(bad_files[name].path)
        assert caught.value.reason in bad_files[name].reasons


def test_clips_and_texts_are_no_images(bad_files):
    for name in ("random", "hls_file", "truncated", "audio_only"):
        with pytest.raises(Reject, match="not_an_image"):
            probe_image(bad_files[name].path)


def test_avif_stills_are_stills_whatever_they_are_called(tmp_path, photo):
    expected = conformed(save(tmp_path, Image.fromarray(photo), "rgb.png"), tmp_path).astype(int)
    for name in ("a.avif", "a.mp4", "a.jpg"):
        path = save(tmp_path, Image.fromarray(photo), name, format="AVIF", quality=90)
        assert is_image(path)
        assert probe_image(path) == (600, 400)
        assert np.abs(conformed(path, tmp_path) - expected).mean() < 4


def test_one_frame_is_no_animation(tmp_path, photo):
    for kind in ("WEBP", "PNG", "AVIF", "TIFF"):
        path = save(tmp_path, Image.fromarray(photo), "one", format=kind, save_all=True)
        assert probe_image(path) == (600, 400), kind
