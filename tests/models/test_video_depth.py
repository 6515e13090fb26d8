"""Video Depth Anything: official names, the authors' numbers on random weights, and windows over a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `models` is not installed")
pytest.importorskip("transformers", reason="the extra `models` is not installed")

from ffpdata.core.errors import ConfigError, FatalError, FfpdataError
from ffpdata.core.stage import ModelSpec, Row
from ffpdata.media.codec import read_gray, write_video
from ffpdata.models.video_depth import VideoDepthAnything
from ffpdata.models.video_depth.backend import input_size
from ffpdata.models.video_depth.network import build, nearness
from ffpdata.models.video_depth.windows import WINDOW, fit, join, window_frames
from ffpdata.stages.depth import Depth
from tests.models import tiny_vision as tiny

BACKEND = "ffpdata.models.video_depth:VideoDepthAnything"
GOLDEN = np.load(Path(__file__).parent / "golden" / "video_depth.npz")
"""What the authors' code (DepthAnything/Video-Depth-Anything, 4f5ae23) makes of the tiny weights in float32: `window`,
of five random frames of 56x84, every third pixel; `clip`, `frames` of `pan(60, 30, 44)` seen at 56, every second pixel;
`low` and `high` of the whole clip."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.video_depth(tmp_path_factory.mktemp("video_depth"))


def spec(folder: Path, **settings: Any) -> ModelSpec:
    chosen = {"side": 56, "dtype": "float32"} | settings
    return ModelSpec(backend=BACKEND, model=str(folder), settings=chosen, runtime={"device": "cpu"})


def model(folder: Path, **settings: Any) -> VideoDepthAnything:
    return VideoDepthAnything(spec(folder, **settings))


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_official_names_and_shapes_load_completely(size: str) -> None:
    import torch

    state = {name: torch.empty(shape, device="meta") for name, shape in tiny.video_depth_shapes(size).items()}
    network = build(state)
    elements = sum(value.numel() for value in state.values())
    assert sum(value.numel() for value in network.state_dict().values()) == elements
    assert len(state) == {"small": 351, "base": 351, "large": 519}[size]


def test_other_weights_are_refused() -> None:
    import torch

    state = {name: torch.empty(shape, device="meta") for name, shape in tiny.video_depth_shapes("tiny").items()}
    build(state)
    lost = "head.motion_modules.3.temporal_transformer.proj_out.bias"
    for changed, message in (
        ({k: v for k, v in state.items() if k != lost}, "Missing key.*motion.3.proj_out.bias"),
        (state | {"head.extra.weight": state[lost]}, r"weight 'head\.extra\.weight' is not one of"),
        (state | {lost: torch.empty(7, device="meta")}, "size mismatch for motion.3.proj_out.bias"),
        ({k: v for k, v in state.items() if ".blocks.11." not in k}, "11 layers of 64 channels; known are 12 and 24"),
        ({"model.weight": state[lost]}, "'pretrained.pos_embed' is missing"),
    ):
        with pytest.raises(FatalError, match=f"(?s){message}"):
            build(changed)


def test_one_window_as_the_authors_code_has_it(folder: Path) -> None:
    import torch

    pixels = 2 * tiny.scatter(5 * 3 * 56 * 84, seed=3).reshape(5, 3, 56, 84).astype(np.float32)
    with torch.inference_mode():
        found = nearness(model(folder).network, torch.from_numpy(pixels))
    assert found.shape == (5, 56, 84)
    np.testing.assert_allclose(found[:, ::3, ::3].numpy(), GOLDEN["window"], atol=2e-4)


def test_a_clip_as_the_authors_code_has_it(folder: Path) -> None:
    clip = tiny.pan(60, 30, 44)
    found = model(folder).depth(clip)
    assert found.shape == (60, 30, 44)
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0, 1)
    expected = (GOLDEN["clip"] - GOLDEN["low"]) / (GOLDEN["high"] - GOLDEN["low"])
    np.testing.assert_allclose(found[GOLDEN["frames"], ::2, ::2], expected, atol=5e-5)
    half = model(folder, dtype="bfloat16").depth(clip)[GOLDEN["frames"], ::2, ::2]
    assert np.abs(half - expected).max() < 0.05
    assert np.abs(half - expected).mean() > 1e-4


def test_levels_per_clip_or_per_frame(folder: Path) -> None:
    frames = np.random.default_rng(4).integers(0, 256, (5, 56, 84, 3), np.uint8)
    whole, each = (model(folder, range=name).depth(frames) for name in ("clip", "frame"))
    low, high = whole.min((1, 2)), whole.max((1, 2))
    assert (whole.min(), whole.max()) == (0, 1)
    assert not ((low == 0) & (high == 1)).all(), "a frame need not hold the nearest of the clip"
    assert (each.min((1, 2)) == 0).all()
    assert (each.max((1, 2)) == 1).all()
    stretched = (whole - low[:, None, None]) / (high - low)[:, None, None]
    assert np.allclose(each, stretched, atol=2e-3), "the order within a frame stays"


@pytest.mark.parametrize("shape", [(1, 40, 60), (3, 64, 64), (35, 60, 20)])
def test_short_long_and_upright_clips(folder: Path, shape: tuple[int, int, int]) -> None:
    clip = tiny.pan(*shape)
    estimator = model(folder, side=28)
    found = estimator.depth(clip)
    assert found.shape == shape
    assert np.isfinite(found).all()
    assert found.max() == 1
    assert np.array_equal(found, estimator.depth(clip))
    assert estimator.kind == "relative"
    estimator.close()


def test_numbers_that_overflow_are_an_error(folder: Path) -> None:
    import torch

    estimator = model(folder, side=28)
    with torch.no_grad():
        estimator.network["head"].conv1.bias.fill_(torch.inf)
    with pytest.raises(FfpdataError, match="overflowed in float32"):
        estimator.depth(tiny.pan(1, 30, 44))


def test_windows_of_a_clip() -> None:
    windows = window_frames(81)
    assert [len(window) for window in windows] == [WINDOW] * 4
    assert windows[0] == list(range(32))
    assert windows[1] == [0, 12, *range(24, 32), *range(32, 54)]
    assert windows[2] == [0, 34, *range(46, 54), *range(54, 76)]
    assert windows[3] == [0, 56, *range(68, 76), *range(76, 81), *[80] * 17]
    assert window_frames(1) == [[0] * 32]
    assert len(window_frames(24)) == 1
    assert len(window_frames(25)) == 2


def test_windows_of_different_scales_are_brought_together() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 2, (81, 6, 8)).astype(np.float32)
    scaled = [
        (truth[frames] * scale + shift).astype(np.float32)
        for frames, scale, shift in zip(window_frames(81), (1, 0.5, 3, 2), (0, 1, 0.25, 4), strict=True)
    ]
    np.testing.assert_allclose(join(scaled, 81), truth, atol=1e-5)
    with pytest.raises(ValueError, match="no window"):
        join([], 3)


def test_windows_that_differ_are_blended() -> None:
    first, second = np.ones((32, 2, 2), np.float32), np.ones((32, 2, 2), np.float32)
    first[:, 0] = second[:2, 0] = 0  # the same scale, by the first two maps
    second[2:] = 8
    out = join([first, second], 40)
    assert out[:24, 1].max() == 1
    np.testing.assert_allclose(out[24:32, 1, 0], 1 + np.arange(8))
    assert (out[32:] == 8).all()


def test_scale_and_shift_are_fitted() -> None:
    maps = np.random.default_rng(1).uniform(0, 1, (2, 5, 5)).astype(np.float32)
    assert fit(maps, 3 * maps - 2) == pytest.approx((3, -2), abs=1e-5)
    assert fit(np.ones_like(maps), maps) == (1, 0)


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((1280, 720), (924, 518)),
        ((720, 1280), (518, 924)),
        ((640, 640), (518, 518)),
        ((1920, 800), (910, 378)),
        ((320, 192), (868, 518)),
    ],
)
def test_the_size_that_is_seen(size: tuple[int, int], seen: tuple[int, int]) -> None:
    assert input_size(*size, 518) == seen


def test_the_published_pickle_is_converted_once(tmp_path: Path) -> None:
    import torch

    from ffpdata.models.convert_to_safetensors import convert

    state = {name: torch.from_numpy(value) for name, value in tiny.video_depth_state().items()}
    torch.save(state, tmp_path / "video_depth_anything_vits.pth")
    with pytest.raises(FatalError, match=r"video_depth_anything_vits\.pth, which could run code"):
        model(tmp_path)
    convert(tmp_path / "video_depth_anything_vits.pth", tmp_path / "converted")
    assert model(tmp_path / "converted").depth(tiny.pan(1, 30, 44)).max() == 1


def test_the_stage_writes_its_depth(folder: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", tiny.pan(4, 30, 44), fps=16)
    stage = Depth(specs={"depth_estimator": spec(folder)})
    stage.setup()
    values = {"source_video": str(tmp_path / "clip.mp4"), "fps": 16.0}
    columns = stage.process(Row(values, new_file=lambda column, child: tmp_path / f"{column}.mp4"))
    stage.teardown()
    gray = read_gray(tmp_path / "depth_video.mp4")
    assert gray.shape == (4, 30, 44)
    assert (gray.min(), gray.max()) == (0, 255)
    assert columns["depth_kind"] == "relative"


def test_settings_are_checked(folder: Path) -> None:
    with pytest.raises(ConfigError, match="'side': must be a multiple of 14"):
        model(folder, side=500)
