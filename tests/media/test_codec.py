import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from ffpdata.core.errors import FatalError, FfpdataError, RetryableError
from ffpdata.media import codec
from tests.media.bad_inputs import ffmpeg


@pytest.fixture(scope="module")
def photo_clip() -> np.ndarray:
    """A photograph panned under a moving light, uint8 (9, 240, 320, 3)."""
    from skimage import data

    photo = cv2.resize(data.chelsea(), (400, 300), interpolation=cv2.INTER_AREA)
    light = np.linspace(0.8, 1.0, 320)[None, :, None]
    return np.stack([(photo[2 * t : 2 * t + 240, 3 * t : 3 * t + 320] * light).astype(np.uint8) for t in range(9)])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_a_clip_comes_back_close_and_without_a_colour_shift(tmp_path, photo_clip):
    path = tmp_path / "clip.mp4"
    codec.write_video(path, photo_clip, 16)
    back = codec.read_video(path)
    assert back.shape == photo_clip.shape
    assert back.dtype == np.uint8
    assert psnr(photo_clip, back) > 40  # what 4:2:0 leaves of a photograph that is sharp to the pixel
    luma = np.array([0.2126, 0.7152, 0.0722])
    assert psnr(photo_clip @ luma, back @ luma) > 44
    assert np.abs((back.astype(float) - photo_clip).mean((0, 1, 2))).max() < 0.5


def test_film_comes_back_closer_than_a_sharp_photograph(tmp_path, photo_clip):
    """A camera's picture is not sharp to the pixel, in colour least of all."""
    film = np.stack([cv2.resize(frame, (640, 480), interpolation=cv2.INTER_CUBIC) for frame in photo_clip])
    codec.write_video(tmp_path / "c.mp4", film, 16)
    assert psnr(film, codec.read_video(tmp_path / "c.mp4")) > 43


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255), (200, 150, 30)])
def test_plain_colours_are_kept_within_one_level(tmp_path, colour):
    frames = np.broadcast_to(np.uint8(colour), (5, 96, 160, 3))
    codec.write_video(tmp_path / "c.mp4", frames, 16)
    assert np.abs(codec.read_video(tmp_path / "c.mp4").astype(int) - frames).max() <= 1


def test_slopes_of_colour_stay_where_they_are(tmp_path):
    """On a slope, a chroma position that is half a pixel off makes red and blue differ in opposite directions."""
    slope = (np.arange(160) * 1.5 + 8).round().astype(np.uint8)
    for ramp in (slope[None, None, :], slope[None, :96, None]):
        frames = np.full((5, 96, 160, 3), 60, np.uint8)
        frames[..., 0], frames[..., 2] = ramp, 255 - ramp
        codec.write_video(tmp_path / "c.mp4", frames, 16)
        error = (codec.read_video(tmp_path / "c.mp4").astype(float) - frames)[2, 8:-8, 8:-8].mean((0, 1))
        assert abs(error[0] - error[2]) < 0.5


def test_the_same_frames_give_the_same_bytes(tmp_path, photo_clip):
    masks = photo_clip[..., 0] > 120
    for name in ("a", "b"):
        codec.write_video(tmp_path / f"{name}.mp4", photo_clip, 16)
        codec.write_masks(tmp_path / f"{name}.mask", masks, 16)
        codec.write_image(tmp_path / f"{name}.png", photo_clip[0])
    for ext in ("mp4", "mask", "png"):
        assert (tmp_path / f"a.{ext}").read_bytes() == (tmp_path / f"b.{ext}").read_bytes()


@pytest.mark.parametrize("shape", [(9, 96, 160), (5, 97, 161), (1, 16, 16)])
def test_masks_and_gray_are_exact(tmp_path, shape):
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, shape, np.uint8)
    codec.write_gray(tmp_path / "gray.mp4", gray, 16)
    assert np.array_equal(codec.read_gray(tmp_path / "gray.mp4"), gray)
    masks = gray > 128
    codec.write_masks(tmp_path / "masks.mp4", masks, 16)
    back = codec.read_masks(tmp_path / "masks.mp4")
    assert back.dtype == bool
    assert np.array_equal(back, masks)


def test_the_header_and_the_tags_say_what_was_written(tmp_path, photo_clip):
    path = tmp_path / "clip.part"
    codec.write_video(path, photo_clip, 30000 / 1001)
    assert codec.video_info(path) == (9, 320, 240, pytest.approx(29.97003))
    found = codec.inspect(path)
    assert (found.packets, found.colours) == (9, ("bt709", "bt709", "bt709", "tv"))


def test_the_first_frame_alone_is_the_first_frame(tmp_path, photo_clip):
    codec.write_video(tmp_path / "c.mp4", photo_clip, 16)
    assert np.array_equal(codec.read_first_frame(tmp_path / "c.mp4"), codec.read_video(tmp_path / "c.mp4")[0])


def test_strided_frames_are_written_as_seen(tmp_path, photo_clip):
    codec.write_video(tmp_path / "a.mp4", photo_clip[:, :, ::-1], 16)
    codec.write_video(tmp_path / "b.mp4", np.ascontiguousarray(photo_clip[:, :, ::-1]), 16)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_other_pixel_formats_keep_their_colours(tmp_path):
    """BT.601, full range and 4:4:4 take the general way and give the same picture."""
    source = ("-f", "lavfi", "-i", "smptebars=s=160x96:r=16:d=0.5")

    def decoded(matrix: str, span: str, pix_fmt: str) -> np.ndarray:
        path = tmp_path / "c.mp4"
        exact = "flags=accurate_rnd+full_chroma_int+full_chroma_inp"
        chain = f"scale={exact}:out_color_matrix={matrix}:out_range={span},format={pix_fmt}"
        tags = f"setparams=colorspace={matrix}:range={span}"
        ffmpeg(*source, "-vf", f"format=gbrp,{chain},{tags}", "-c:v", "libx264", "-qp", "1", path)
        return codec.read_video(path).astype(int)

    expected = decoded("bt709", "tv", "yuv420p")
    for how in (("smpte170m", "tv", "yuv420p"), ("bt709", "pc", "yuv420p"), ("bt709", "tv", "yuv444p")):
        assert np.percentile(np.abs(decoded(*how) - expected), 80) <= 2, how  # between the edges of the bars


def test_images_come_back_exactly(tmp_path, photo_clip):
    path = tmp_path / "image.tmp"
    codec.write_image(path, photo_clip[0])
    assert path.read_bytes().startswith(b"\x89PNG")
    assert np.array_equal(codec.read_image(path), photo_clip[0])
    codec.write_image(path, photo_clip[0, ..., 1])
    assert np.array_equal(codec.read_image(path)[..., 0], photo_clip[0, ..., 1])


def test_damaged_files_are_errors_and_no_short_clips(tmp_path, photo_clip):
    path = tmp_path / "c.mp4"
    codec.write_video(path, photo_clip, 16)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FfpdataError, match=r"c\.mp4"):
        codec.read_video(path)
    path.write_bytes(b"no clip")
    for read in (codec.read_video, codec.read_masks, codec.video_info, codec.read_first_frame, codec.read_image):
        with pytest.raises(FfpdataError, match=r"c\.mp4"):
            read(path)
    with pytest.raises(FfpdataError):
        codec.read_video(tmp_path / "missing.mp4")


def test_arrays_of_the_wrong_kind_are_refused(tmp_path):
    with pytest.raises(TypeError, match="uint8"):
        codec.write_video(tmp_path / "c.mp4", np.zeros((3, 16, 16, 3), np.float32), 16)
    with pytest.raises(ValueError, match="even"):
        codec.write_video(tmp_path / "c.mp4", np.zeros((3, 15, 16, 3), np.uint8), 16)
    with pytest.raises(TypeError, match="bool"):
        codec.write_masks(tmp_path / "c.mp4", np.zeros((3, 16, 16), np.uint8), 16)
    with pytest.raises(TypeError, match=r"\(0, 16, 16\)"):
        codec.write_gray(tmp_path / "c.mp4", np.zeros((0, 16, 16), np.uint8), 16)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_fatal_and_says_so(tmp_path, photo_clip):
    with pytest.raises(FatalError, match="disk full"):
        codec.write_video(Path("/dev/full"), photo_clip, 16)
    with pytest.raises(FatalError, match=os.strerror(28)):
        codec.write_image(Path("/dev/full"), photo_clip[0])


def test_a_failing_encoder_is_tried_again_and_quoted(tmp_path, photo_clip):
    with pytest.raises(RetryableError, match="No such file or directory"):
        codec.write_video(tmp_path / "nowhere" / "c.mp4", photo_clip, 16)
