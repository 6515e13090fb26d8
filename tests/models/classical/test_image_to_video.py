"""The embedded animator: begins with the still itself and shows nothing that is not in it."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.classical.image_to_video import MOVES, ParallaxAnimator
from ffpdata.models.protocols import Edit
from tests.models.classical.toys import Clip, texture

SPEC = ModelSpec(backend="ffpdata.models.classical.image_to_video:ParallaxAnimator")
SEEDS = {int(np.random.default_rng(seed).integers(len(MOVES))): seed for seed in range(60)}
"""Move to a seed that picks it."""


def animate(image: Clip, frames: int = 9, seed: int = 0) -> Edit:
    return ParallaxAnimator(SPEC).animate(image, prompt="", frames=frames, seed=seed)


def test_the_first_frame_is_the_still() -> None:
    image = texture(96, 160, 0)
    edit = animate(image)
    assert edit.frames.shape == (9, 96, 160, 3)
    assert np.array_equal(edit.frames[0], image)
    assert edit.facts["camera_travel"] > 0.02


def test_it_repeats_itself_exactly() -> None:
    image = texture(96, 160, 1)
    assert np.array_equal(animate(image, seed=5).frames, animate(image, seed=5).frames)


def test_it_starts_and_stops_gently() -> None:
    frames = animate(texture(96, 160, 2), frames=17).frames.astype(int)
    change = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert change[0] < 0.5 * change.max()
    assert change[-1] < 0.5 * change.max()


@pytest.mark.parametrize("move", range(len(MOVES)))
def test_nothing_folds_tears_or_is_stretched_from_the_border(move: int) -> None:
    """Every pixel carries its own coordinates: in every frame they must grow steadily and stay inside."""
    height, width = 90, 160
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None] * 2
    edit = animate(image, seed=SEEDS[move])
    assert int(edit.facts["camera_move"]) == move
    for frame in edit.frames[1:].astype(int):
        across, down = np.diff(frame[..., 0], axis=1), np.diff(frame[..., 1], axis=0)
        assert across.min() >= 0  # no fold
        assert across.max() <= 3  # no tear
        assert down.min() >= 0
        for edge in (frame[:, :9, 0], frame[:, -9:, 0]):
            assert (
                edge[:, -1] - edge[:, 0]
            ).min() >= 5  # 8 steps at up to 1.25 times the size: not the border repeated
        assert (frame[8, :, 1] - frame[0, :, 1]).min() >= 10
        assert (frame[-1, :, 1] - frame[-9, :, 1]).min() >= 10


def test_near_things_move_against_far_ones() -> None:
    width = 160
    image = np.zeros((96, width, 3), np.uint8)
    image[..., 0] = np.arange(width)
    move = next(i for i, m in enumerate(MOVES) if m.name == "truck right")
    shift = animate(image, seed=SEEDS[move]).frames[-1].astype(int)[..., 0] - image[..., 0]
    middle = slice(width // 2 - 10, width // 2 + 10)
    assert shift[-10:, middle].mean() > 0.5 > -0.5 > shift[:10, middle].mean()


@pytest.mark.parametrize(("shape", "frames"), [((96, 54, 3), 5), ((16, 16, 3), 2), ((96, 160, 3), 1)])
def test_other_sizes(shape: tuple[int, ...], frames: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    assert animate(image, frames).frames.shape == (frames, *shape)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="no entry 'zom'; did you mean 'zoom'"):
        ParallaxAnimator(SPEC.model_copy(update={"settings": {"zom": 1}}))
