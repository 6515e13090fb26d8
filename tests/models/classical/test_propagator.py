"""The embedded propagator, on scenes whose motion is known."""

import cv2
import numpy as np
import pytest

from ffpdata.core.errors import Reject
from ffpdata.core.stage import ModelSpec
from ffpdata.models.classical.propagator import FlowPropagator

HEIGHT, WIDTH, FRAMES = 96, 160, 7


def scene(shift: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A textured picture that moves to the left, and where a patch of it is on each frame, bool (T, H, W)."""
    rng = np.random.default_rng(1)
    wide = cv2.resize(
        rng.integers(30, 220, (24, 60, 3), dtype=np.uint8), (WIDTH * 2, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    frames = np.stack([wide[:, shift * t : shift * t + WIDTH] for t in range(FRAMES)])
    patch = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for t in range(FRAMES):
        patch[t, 30:60, max(0, 60 - shift * t) : max(0, 100 - shift * t)] = True
    return frames, patch


def model(**settings: object) -> FlowPropagator:
    return FlowPropagator(ModelSpec(backend="ffpdata.models.classical.propagator:FlowPropagator", settings=settings))


def test_a_change_moves_with_what_it_lies_on() -> None:
    frames, patch = scene()
    wanted = frames.copy()
    wanted[patch] = np.clip(wanted[patch].astype(int) + np.array([40, -30, 10]), 0, 255)
    edit = model().propagate(frames, wanted[0])
    assert np.array_equal(edit.frames[0], wanted[0])
    error = np.abs(edit.frames.astype(int) - wanted)
    copied = np.abs(frames.astype(int) - wanted)
    repeated = np.abs(wanted[:1].astype(int) - wanted)
    inner = patch.copy()
    inner[:, :34], inner[:, 56:] = False, False
    assert error[inner].mean() < 0.25 * copied[inner].mean()
    assert error.mean() < 0.25 * repeated.mean()
    assert (
        error[~cv2.dilate(patch.astype(np.uint8).max(0), np.ones((15, 15))).astype(bool)[None].repeat(FRAMES, 0)].max()
        == 0
    )
    assert 0.7 < edit.facts["carried"] <= edit.facts["carried_mean"] <= 1.1


def test_what_leaves_the_picture_or_was_not_edited_is_rejected() -> None:
    frames, patch = scene(shift=16)
    edited = frames[0].copy()
    edited[30:60, 4:24] = 255 - edited[30:60, 4:24]
    with pytest.raises(Reject, match=r"frame \d still shows \d+% of the edit, the limit is 15%"):
        model().propagate(frames, edited)
    with pytest.raises(Reject, match="there is no edit to carry"):
        model().propagate(frames, frames[0])
    with pytest.raises(ValueError, match="resize it"):
        model().propagate(frames, edited[:-16])
    assert patch.any()


def test_what_cannot_be_followed_takes_the_edit_of_its_own_colour() -> None:
    """A disc in two colours rolls over a texture: its edges are lost to the flow, and turn with its inside."""
    rng = np.random.default_rng(2)
    ground = cv2.resize(rng.integers(60, 110, (12, 20, 3), dtype=np.uint8), (WIDTH, HEIGHT))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames, red = np.repeat(ground[None], FRAMES, 0), np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for t in range(FRAMES):
        middle = 50 + 4 * t
        disc = np.hypot(y - 48, x - middle) < 24
        red[t] = disc & (np.hypot(y - 48, x - middle) > 8)
        frames[t][disc] = (230, 220, 40)
        frames[t][red[t]] = (200, 40, 30)
    wanted = frames.copy()
    wanted[red] = (40, 60, 200)
    edit = model().propagate(frames, wanted[0])
    near = np.abs(edit.frames.astype(int) - wanted).max(axis=3) < 60
    assert edit.facts["filled"] > 0.02
    assert near[red].mean() > 0.93
    yellow = np.abs(frames.astype(int) - (230, 220, 40)).max(axis=3) == 0
    assert near[yellow].mean() > 0.9
    assert near[~red & ~yellow].mean() > 0.97
