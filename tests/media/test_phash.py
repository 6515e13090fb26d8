import cv2
import numpy as np

from ffpdata.media.phash import clip_hashes


def picture(seed: int, frames: int = 5) -> np.ndarray:
    """A smooth random scene, brighter frame by frame."""
    small = np.random.default_rng(seed).integers(0, 200, (6, 9, 3), dtype=np.uint8)
    base = cv2.resize(small, (160, 96), interpolation=cv2.INTER_CUBIC)
    return np.stack([np.clip(base.astype(int) + 3 * t, 0, 255).astype(np.uint8) for t in range(frames)])


def bits(one: list[str], other: list[str]) -> float:
    return float(np.mean([(int(a, 16) ^ int(b, 16)).bit_count() for a, b in zip(one, other, strict=True)]))


def test_hashes_are_those_that_manifests_hold() -> None:
    """Runs keep them: these four were made by the package imagehash 4.3.2."""
    flat = np.full((1, 30, 50, 3), 90, np.uint8)
    assert clip_hashes(picture(1)[:1])[::3] == ["a659f4f11a86e139", "fb0ca1a44f93b26c"]
    assert clip_hashes(picture(2)[:1])[0] == "bb0586bfd24629b1"
    assert clip_hashes(flat)[0] == "8000000000000000"


def test_six_hashes_of_sixteen_digits() -> None:
    assert [len(h) for h in clip_hashes(picture(1))] == [16] * 6


def test_a_noisy_copy_is_near_and_another_scene_is_far() -> None:
    noise = np.random.default_rng(5).normal(0, 4, (5, 96, 160, 3))
    copy = np.clip(picture(1) + noise, 0, 255).astype(np.uint8)
    assert bits(clip_hashes(picture(1)), clip_hashes(copy)) <= 10
    assert bits(clip_hashes(picture(1)), clip_hashes(picture(2))) > 20


def test_a_mirrored_copy_has_the_halves_swapped() -> None:
    plain, mirrored = clip_hashes(picture(1)), clip_hashes(picture(1)[:, :, ::-1])
    assert mirrored == plain[3:] + plain[:3]
    assert bits(plain, mirrored) > 20


def test_one_frame_is_enough() -> None:
    assert len(set(clip_hashes(picture(3, frames=1))[:3])) == 1
