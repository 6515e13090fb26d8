import cv2
import numpy as np
import pytest

from ffpdata.media import flow
from ffpdata.media.geometry import Geometry
from ffpdata.sample.scenes import SCENES, render

SIZE = Geometry(width=320, height=192, frames=9)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(128, 60, (height, width, 3)).astype(np.float32)
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 3 - 256, 0, 255).astype(np.uint8)


def moved(world: np.ndarray, paths: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    return np.stack([cv2.warpPerspective(world, np.linalg.inv(p), size, flags=cv2.INTER_CUBIC) for p in paths])


def error_px(found: np.ndarray, true: np.ndarray, width: int, height: int) -> float:
    """Largest distance of a corner between two paths."""
    off = np.linalg.inv(true) @ found
    return float(flow.corner_shift(off / off[:, 2:, 2:], width, height).max())


def test_a_turning_panning_zooming_camera_is_recovered_to_a_fraction_of_a_pixel():
    paths = []
    for t in range(13):
        angle, zoom = 0.006 * t, 1 - 0.004 * t
        c, s = zoom * np.cos(angle), zoom * np.sin(angle)
        paths.append(np.array([[c, -s, 20 + 3.3 * t], [s, c, 20 + 1.7 * t], [0, 0, 1]]))
    frames = moved(texture(300, 460), paths, (320, 192))
    found = flow.camera_path(frames)
    true = np.linalg.inv(paths[found.reference]) @ np.array(paths)
    assert not found.still
    assert found.inliers.min() > 0.4
    assert error_px(found.to_reference, true, 320, 192) < 0.25


def test_a_still_camera_is_exactly_the_identity_though_grain_moves():
    rng = np.random.default_rng(1)
    still = texture(192, 320)
    frames = np.stack([np.clip(still + rng.normal(0, 2, still.shape), 0, 255).astype(np.uint8) for _ in range(7)])
    found = flow.camera_path(frames)
    assert found.still
    assert np.array_equal(found.to_reference, np.tile(np.eye(3), (7, 1, 1)))


def test_masked_points_are_not_followed():
    background = texture(192, 320)
    frames, masks = np.stack([background] * 9), np.zeros((9, 192, 320), bool)
    patch = texture(150, 200, seed=5)
    for t in range(9):
        frames[t, 20:170, 10 + 12 * t : 210 + 12 * t] = patch
        masks[t, 20:170, 10 + 12 * t : 210 + 12 * t] = True
    assert flow.camera_path(frames, masks).still


def test_nothing_to_track_gives_the_identity_and_no_inliers():
    found = flow.camera_path(np.full((5, 96, 160, 3), 90, np.uint8))
    assert not found.still
    assert found.inliers.tolist() == [0, 0, 1, 0, 0]
    assert np.array_equal(found.to_reference, np.tile(np.eye(3), (5, 1, 1)))


def test_the_path_is_that_of_the_full_size_whatever_size_is_tracked():
    scene = next(s for s in SCENES if s.name == "cup_handheld")
    frames = np.stack([f for f, _, _ in render(scene, Geometry(width=640, height=368, frames=9))])
    full, small = flow.camera_path(frames), flow.camera_path(frames, width=320)
    assert error_px(small.to_reference, full.to_reference, 640, 368) < 1.5


@pytest.mark.parametrize("fine", [False, True])
def test_dense_flow_and_sample_bring_a_frame_back(fine):
    world = texture(200, 330)
    first, second = flow.gray(world[:192, :320]), flow.gray(world[2:194, 5:325])
    motion = flow.dense_flow(first, second, fine=fine)
    assert np.allclose(np.median(motion, axis=(0, 1)), (-5, -2), atol=0.3)
    back = flow.backward_warp(second, motion)
    inner = np.s_[20:-20, 20:-20]
    assert np.abs(back[inner].astype(int) - first[inner]).mean() < 3


def test_camera_flow_is_the_homographys():
    shift = np.array([[1, 0, 3.0], [0, 1, -2.0], [0, 0, 1]])
    assert np.allclose(flow.camera_flow(shift, 4, 5), (3, -2))


def test_warp_error_rises_with_flicker_and_looks_only_where_it_is_told():
    scene = SCENES[0]
    frames = np.stack([f for f, _, _ in render(scene, SIZE)])
    flickering = frames.copy()
    flickering[1::2, :, :160] = np.clip(flickering[1::2, :, :160].astype(int) + 30, 0, 255)
    right = np.zeros(frames.shape[:3], bool)
    right[:, :, 200:] = True
    steady = flow.warp_error(frames)
    assert steady < 5
    assert flow.warp_error(flickering) > steady + 6
    assert abs(flow.warp_error(flickering, right) - flow.warp_error(frames, right)) < 2
    assert flow.warp_error(frames, np.zeros(frames.shape[:3], bool)) == 0


def test_a_frozen_clip_has_no_warp_error():
    assert flow.warp_error(np.stack([texture(96, 160)] * 4)) < 0.05
