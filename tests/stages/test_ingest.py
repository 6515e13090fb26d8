"""`ingest`: which windows of a source become clips, of what size, and where the user's box lies in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffpdata.core.stage import Reject
from ffpdata.media.codec import read_image, read_video, video_info, write_image, write_video
from ffpdata.media.geometry import Geometry
from ffpdata.stages.ingest import Ingest, IngestSettings
from tests.media.bad_inputs import X264, ffmpeg, pattern
from tests.stages.alone import Alone

CLIP = Geometry(width=64, height=48, fps=16, frames=9)
SCENES = np.random.default_rng(0).integers(20, 120, (2, 9, 12, 3), dtype=np.uint8)
SCENES[1] += 120


def scene(seed: int, frames: int, width: int = 128, height: int = 96) -> np.ndarray:
    """Coarse random blocks that drift by a pixel a frame, so that no shot is a still."""
    blocks = np.kron(SCENES[seed], np.ones((16, 24, 1), np.uint8))
    return np.stack([blocks[t // 2 : t // 2 + height, t : t + width] for t in range(frames)])


def source(alone: Alone, *shots: int, fps: float = 16) -> str:
    """Write shots of so many frames, one after the other."""
    write_video(alone.folder / "in.mp4", np.concatenate([scene(n, count) for n, count in enumerate(shots)]), fps)
    return "in.mp4"


def ingest(alone: Alone, path: str, kind: str = "video", given_box: object = None, **settings: object):
    stage = Ingest(IngestSettings(**{"clip": CLIP, "min_side": 48, **settings}))
    values = {"path": path, "root": str(alone.folder), "kind": kind, "sha": "0" * 16}
    return alone.expand(stage, **values, given_box=given_box)


def refused(alone: Alone, *given: object, **settings: object) -> Reject:
    with pytest.raises(Reject) as caught:
        ingest(alone, *given, **settings)
    return caught.value


def test_one_clip_of_the_geometry(alone: Alone) -> None:
    [child] = ingest(alone, source(alone, 32))
    assert child.suffix == "00"
    frames = read_video(child.columns["source_video"])
    assert frames.shape == (9, 48, 64, 3)
    kept = {name: child.columns[name] for name in child.columns if name != "source_video"}
    assert kept == {
        "width": 64,
        "height": 48,
        "fps": 16.0,
        "frames": 9,
        "start_s": 0.0,
        "source_width": 128,
        "source_height": 96,
        "source_fps": 16.0,
        "source_seconds": 2.0,
        "codec": "h264",
    }


def test_windows_follow_each_other_and_do_not_cross_a_cut(alone: Alone) -> None:
    # 24 frames are 1.5 s, a clip needs 0.5625 s: two windows to a shot; after a cut the first begins 0.1 s later.
    made = ingest(alone, source(alone, 24, 24), clips_per_source=9, shot_margin_s=0.1)
    assert [child.suffix for child in made] == ["00", "01", "02", "03"]
    starts = [child.columns["start_s"] for child in made]
    assert starts[:2] == [0.0, 0.562]
    assert 1.6 <= starts[2] <= 1.6 + 2 / 16, "the margin after the cut, which is found to a frame or two"
    assert starts[3] - starts[2] == pytest.approx(0.5625, abs=0.001)
    for child, of in zip(made, (0, 0, 1, 1), strict=True):
        frames = read_video(child.columns["source_video"]).astype(int)
        begins = [np.abs(frames - frames[0].mean((0, 1))).mean(), np.abs(np.diff(frames, axis=0)).mean()]
        assert begins[1] < begins[0], f"window {child.suffix} holds a cut"
        assert (frames.mean() > 130) == of, "and each shows its own shot"


def test_the_number_of_clips_is_a_setting(alone: Alone) -> None:
    path = source(alone, 48)
    assert len(ingest(alone, path)) == 1
    assert len(ingest(alone, path, clips_per_source=3)) == 3
    assert len(ingest(alone, path, clips_per_source=99)) == 5


def test_a_start_is_when_its_frame_is_shown(alone: Alone) -> None:
    """A shot of 24 fps is left 0.1 s at its beginning, which lies between two frames: the next one is the first."""
    clip = Geometry(width=64, height=48, fps=24, frames=9)
    for child in ingest(alone, source(alone, 24, 24, fps=24), clip=clip, clips_per_source=9):
        frame = child.columns["start_s"] * 24
        assert frame == pytest.approx(round(frame), abs=0.02)
        shown = np.abs(read_video(child.columns["source_video"])[0].astype(int) - scenes_at(round(frame))).mean()
        assert shown < 6


def scenes_at(number: int) -> np.ndarray:
    """Frame `number` of two shots of 24 frames, at half the size."""
    return scene(number // 24, 24)[number % 24, ::2, ::2].astype(int)


def test_a_pause_costs_the_window_that_it_is_in_and_no_other(alone: Alone) -> None:
    ffmpeg(
        *pattern("128x96", rate=16, seconds=3), "-vf", "setpts=PTS+gte(N\\,12)*2/TB", "-fps_mode", "passthrough",
        *X264, alone.folder / "in.mp4",
    )  # fmt: skip
    starts = [child.columns["start_s"] for child in ingest(alone, "in.mp4", clips_per_source=9)]
    assert starts[0] == 0
    assert len(starts) > 2
    assert starts[1] == 0.562, "its last frame is shown for no longer than any clip's may be"
    assert all(start > 2.25 for start in starts[2:]), "none is in the pause"
    assert len(set(starts)) == len(starts)
    assert [child.suffix for child in ingest(alone, "in.mp4", clips_per_source=2)] == ["00", "01"]


def test_an_animated_gif_is_a_clip(alone: Alone) -> None:
    ffmpeg(*pattern("128x96", rate=20, seconds=1), alone.folder / "in.gif")
    [child] = ingest(alone, "in.gif")
    assert read_video(child.columns["source_video"]).shape == (9, 48, 64, 3)
    assert child.columns["codec"] == "gif"


def test_only_the_beginning_is_searched(alone: Alone) -> None:
    path = source(alone, 12, 48)
    assert len(ingest(alone, path, clips_per_source=9, scan_seconds=1.0)) == 1
    assert len(ingest(alone, path, clips_per_source=9)) > 3


def test_a_source_without_a_long_enough_shot_is_refused_with_its_numbers(alone: Alone) -> None:
    err = refused(alone, source(alone, 8))
    assert err.reason == "too_short"
    assert "the longest shot has 0.50 s, 9 frames at 16 fps need 0.56 s" in err.detail


def test_a_black_source_has_no_picture(alone: Alone) -> None:
    write_video(alone.folder / "in.mp4", np.zeros((32, 96, 128, 3), np.uint8), 16)
    assert refused(alone, "in.mp4").reason == "no_picture"


def test_a_small_source_is_refused(alone: Alone) -> None:
    assert refused(alone, source(alone, 32), min_side=97).reason == "too_small"
    assert len(ingest(alone, source(alone, 32), min_side=96)) == 1


def test_a_box_takes_the_first_window_and_is_mapped_to_the_clip(alone: Alone) -> None:
    [child] = ingest(alone, source(alone, 32), given_box=[32.0, 24.0, 64.0, 48.0], clips_per_source=3)
    assert child.columns["start_s"] == 0.0
    assert child.columns["box"] == [16.0, 12.0, 32.0, 24.0], "half the size"


def test_a_box_is_shifted_by_what_the_crop_cuts_off(alone: Alone) -> None:
    # 128x96 covers 64x32 at half its size, 64x48: 8 lines are cut off at the top and at the bottom.
    wide = Geometry(width=64, height=32, fps=16, frames=9)
    path = source(alone, 32)
    [child] = ingest(alone, path, given_box=[32, 48, 64, 64], clip=wide)
    assert child.columns["box"] == [16.0, 16.0, 32.0, 24.0]
    [child] = ingest(alone, path, given_box=[-10, 0, 500, 64], clip=wide)
    assert child.columns["box"] == [0.0, 0.0, 64.0, 24.0], "what lies outside is cut off"
    err = refused(alone, path, given_box=[32, 2, 64, 14], clip=wide)
    assert err.reason == "bad_box"
    assert "128x96" in err.detail


def test_black_bars_are_cropped_and_a_box_moves_with_them(alone: Alone) -> None:
    frames = scene(0, 32, 160, 96).copy()
    frames[:, :, :16] = frames[:, :, 144:] = 0
    write_video(alone.folder / "in.mp4", frames, 16)
    wide = Geometry(width=80, height=48, fps=16, frames=9)
    [child] = ingest(alone, "in.mp4", given_box=[16, 0, 80, 48], clip=wide)
    # 128x96 are left, which cover 80x48 at 0.625 of their size; 6 lines are cut off at the top.
    assert child.columns["box"] == pytest.approx([0, 0, 40, 24], abs=1.5)
    assert read_video(child.columns["source_video"])[:, :, :6].mean() > 60
    [child] = ingest(alone, "in.mp4", given_box=[16, 0, 80, 48], clip=wide, crop_bars=False)
    assert child.columns["box"] == [8.0, 0.0, 40.0, 24.0]
    assert read_video(child.columns["source_video"])[:, :, :6].mean() < 20, "they are there where they are kept"


def test_a_portrait_source_turns_the_geometry(alone: Alone) -> None:
    write_video(alone.folder / "in.mp4", scene(0, 32).transpose(0, 2, 1, 3), 16)
    [child] = ingest(alone, "in.mp4")
    assert (child.columns["width"], child.columns["height"]) == (48, 64)
    assert video_info(child.columns["source_video"])[1:3] in {(48, 64), (64, 48)}


def test_a_still_image_is_taken_only_where_it_is_wanted(alone: Alone) -> None:
    write_image(alone.folder / "in.png", scene(0, 1)[0])
    err = refused(alone, "in.png", "image")
    assert err.reason == "not_a_video"
    assert "stylization" in err.detail
    [child] = ingest(alone, "in.png", "image", images=True)
    assert read_image(child.columns["content_image"]).shape == (48, 64, 3)
    assert "source_video" not in child.columns
    assert {"width": 64, "height": 48, "fps": 16.0, "frames": 9, "source_width": 128, "source_height": 96}.items() <= (
        child.columns.items()
    )
    assert refused(alone, "in.png", "image", images=True, min_side=97).reason == "too_small"


def test_a_still_image_is_one_whatever_it_is_called(alone: Alone) -> None:
    Image.fromarray(scene(0, 1)[0]).save(alone.folder / "in.mp4", "AVIF")
    assert refused(alone, "in.mp4").reason == "not_a_video"
    [child] = ingest(alone, "in.mp4", images=True)
    assert read_image(child.columns["content_image"]).shape == (48, 64, 3)
    assert (child.columns["source_width"], child.columns["source_height"]) == (128, 96)


def test_each_clip_has_a_file_of_its_own(alone: Alone) -> None:
    made: list[Path] = [c.columns["source_video"] for c in ingest(alone, source(alone, 48), clips_per_source=3)]
    assert len(set(made)) == 3
    assert not np.array_equal(read_video(made[0]), read_video(made[1]))
