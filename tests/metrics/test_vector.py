"""Metrics of pairs whose damage is known."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from ffpdata.media.metrics import PSNR_MAX
from ffpdata.metrics.full_size import structural_similarity
from ffpdata.metrics.pair import Pair
from ffpdata.metrics.vector import VECTOR, measure_pair

FRAMES, HEIGHT, WIDTH = 16, 96, 160


@pytest.fixture(scope="module")
def source() -> np.ndarray:
    """A smooth random texture that drifts by 1.5 pixels a frame, and a bright square that goes the other way."""
    wide = np.random.default_rng(5).normal(0, 1, (HEIGHT, WIDTH + 60, 3)).astype(np.float32)
    wide = cv2.GaussianBlur(wide, (0, 0), 1.5)
    wide = (128 + wide / wide.std() * 30).clip(20, 235)
    frames = []
    for t in range(FRAMES):
        shift = np.float32([[1, 0, -1.5 * t], [0, 1, 0]])
        frames.append(cv2.warpAffine(wide, shift, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR))
    clip = np.stack(frames)
    pattern = np.where(np.indices((28, 28)).sum(0) // 4 % 2 == 0, 250, 190)[..., None]
    for t, frame in enumerate(clip):
        frame[34:62, 90 - 3 * t : 118 - 3 * t] = pattern
    return clip.round().astype(np.uint8)


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for t in range(FRAMES):
        masks[t, 34:62, 90 - 3 * t : 118 - 3 * t] = True
    return masks


@pytest.fixture(scope="module")
def edited(source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The square recoloured, with its pattern."""
    target = source.copy()
    target[mask] = target[mask] * np.array([0.9, 0.4, 0.2])
    return target


def styled(clip: np.ndarray) -> np.ndarray:
    """Other colours and more contrast, frame by frame alike."""
    return (clip[..., ::-1] * np.array([0.5, 1.0, 0.8]) + np.array([60, -10, 20])).clip(0, 255).astype(np.uint8)


def local(source: np.ndarray, target: np.ndarray, mask: np.ndarray, **more: bool) -> dict[str, float]:
    return measure_pair(Pair(source, target, region=mask, outline=mask, **more))


def whole(source: np.ndarray, target: np.ndarray) -> dict[str, float]:
    return measure_pair(Pair(source, target))


def test_an_edit_that_is_only_where_it_should_be_has_no_fault(source, edited, mask) -> None:
    found = local(source, edited, mask)
    assert found["psnr_outside_worst"] == found["psnr_outside_mean"] == PSNR_MAX
    assert found["ssim_outside_worst"] == pytest.approx(1)
    clean = ("psnr_outside_dip", "spill_worst", "colour_drift_worst", "flicker_outside", "misalignment", "frame_lag")
    assert {name: round(found[name], 2) for name in clean} == dict.fromkeys(clean, 0)
    none = ("edit_missing", "frozen_frames", "misplaced_frames", "outline_lost", "noise")
    assert {name: round(found[name], 2) for name in none} == dict.fromkeys(none, 0)
    for name in ("first_frame_change", "edit_weakest", "sharpness", "sharpness_worst", "blocking", "skipped_frames"):
        assert found[name] == pytest.approx(1, abs=0.05), name
    assert found["smear"] > 0.8
    assert found["edit_in_outline"] > 0.9
    assert found["motion_agreement"] > 0.9
    assert not {"leftover", "leftover_worst"} & set(found), "nothing was removed"


def test_every_number_lies_in_its_range_and_says_what_it_is(source, edited, mask) -> None:
    spoilt = noisy(edited, 20)
    found = local(source, spoilt[::-1].copy(), mask, removes=True) | whole(source, spoilt)
    for metric in VECTOR:
        assert metric.meaning
        assert not metric.meaning.startswith(" ")
        if metric.name in found:
            assert metric.low <= found[metric.name] <= metric.high, metric.name
    assert len({metric.name for metric in VECTOR}) == len(VECTOR)


def test_of_a_whole_picture_nothing_is_outside(source) -> None:
    found = whole(source, styled(source))
    assert not {name for name in found if "outside" in name} - {"flicker_outside"}
    assert not {"halo", "seam", "outline_lost", "edit_in_outline", "flicker_inside"} & set(found)
    assert found["motion_agreement_worst"] > 0.8
    assert found["frame_lag"] < 0.2
    assert found["edit_missing"] == 0


def late(clip: np.ndarray, by: int) -> np.ndarray:
    return clip[np.maximum(np.arange(len(clip)) - by, 0)]


def at(clip: np.ndarray, t: int, frame: np.ndarray) -> np.ndarray:
    changed = clip.copy()
    changed[t] = frame
    return changed


def moved(frame: np.ndarray, x: float) -> np.ndarray:
    matrix = np.float32([[1, 0, x], [0, 1, 0]])
    return cv2.warpAffine(frame, matrix, frame.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def noisy(clip: np.ndarray, level: float) -> np.ndarray:
    return (clip + np.random.default_rng(1).normal(0, level, clip.shape)).clip(0, 255).astype(np.uint8)


FLASH = np.uint8([0, 0, 0, 0, 12])[np.arange(FRAMES) % 5, None, None, None]
Change = Callable[[np.ndarray, np.ndarray], np.ndarray]
BOTH: list[tuple[str, Change, str, float, float]] = [
    ("first frame unedited", lambda s, t: at(t, 0, s[0]), "first_frame_change", -0.01, 0.01),
    ("a third unedited", lambda s, t: np.concatenate([t[:5], s[5:10], t[10:]]), "edit_missing", 0.3, 0.4),
    ("half stands still", lambda s, t: t[np.minimum(np.arange(FRAMES), 8)], "frozen_frames", 0.3, 0.6),
    ("one frame is late", lambda s, t: late(t, 1), "frame_lag", 0.7, 1.3),
    ("two frames are late", lambda s, t: late(t, 2), "misplaced_frames", 0.9, 1),
    ("a frame is left out", lambda s, t: np.delete(t, 8, 0)[[*range(15), 14]], "skipped_frames", 1.3, 4),
    ("one pixel to the right", lambda s, t: np.stack([moved(f, 1) for f in t]), "misalignment", 0.7, 1.3),
    ("half a pixel", lambda s, t: np.stack([moved(f, 0.5) for f in t]), "misalignment", 0.3, 0.7),
    ("one frame shifted", lambda s, t: at(t, 7, moved(t[7], 3)), "misalignment_worst", 2, 4),
    ("brightness flickers", lambda s, t: t + FLASH, "flicker_worst", 8, 13),
    ("one frame is black", lambda s, t: at(t, 7, t[7] // 4), "warp_error_worst", 30, 255),
    ("blurred", lambda s, t: np.stack([cv2.GaussianBlur(f, (0, 0), 2) for f in t]), "sharpness", 0, 0.95),
    ("noise", lambda s, t: noisy(t, 9), "noise", 4, 10),
    ("smeared to the side", lambda s, t: np.stack([cv2.blur(f, (9, 1)) for f in t]), "smear", 0, 0.9),
    ("blocks", lambda s, t: t[:, ::8, ::8].repeat(8, 1).repeat(8, 2), "blocking", 2, 20),
]  # fmt: skip


@pytest.mark.parametrize("damage", BOTH, ids=[damage[0] for damage in BOTH])
@pytest.mark.parametrize("kind", ["local", "whole"])
def test_a_known_damage_has_its_number(source, edited, mask, kind, damage) -> None:
    _, change, name, low, high = damage
    target = edited if kind == "local" else styled(source)
    damaged = change(source, target)
    pair = Pair(source, damaged, region=mask, outline=mask) if kind == "local" else Pair(source, damaged)
    metric = next(metric for metric in VECTOR if metric.name == name)
    value = metric.measure(pair)
    assert value is not None
    assert low <= value <= high


def test_what_changes_outside_is_seen_in_the_one_frame_where_it_is(source, edited, mask) -> None:
    spoilt = edited.copy()
    spoilt[7, 70:90, 10:40] = 255 - spoilt[7, 70:90, 10:40]
    found = local(source, spoilt, mask)
    assert found["psnr_outside_mean"] > 95, "a mean hides it"
    assert found["psnr_outside_worst"] < 30
    assert found["psnr_outside_dip"] > 50
    assert found["spill_worst"] > 10 * max(1, found["spill"])


def test_blur_is_told_by_the_edges_of_a_stylization(source, edited, mask) -> None:
    blurred = np.stack([cv2.GaussianBlur(f, (0, 0), 1.5) for f in styled(source)])
    sharp, soft = whole(source, styled(source))["crispness"], whole(source, blurred)["crispness"]
    assert soft < 0.8 * sharp
    assert "crispness" not in local(source, edited, mask)


def test_a_slow_drift_of_colours_is_told_by_its_whole_way(source, edited, mask) -> None:
    ramp = np.linspace(0, 1, FRAMES)[:, None, None, None] * np.array([12, -2, -10])
    drifted = (styled(source) + ramp).clip(0, 255).astype(np.uint8)
    still, moved = (whole(source, clip)["colour_trend"] for clip in (styled(source), drifted))
    assert still < 1
    assert moved > 3 + still
    beside = (edited + ramp).clip(0, 255).astype(np.uint8)
    assert local(source, edited, mask)["colour_trend"] < 0.1
    assert local(source, beside, mask)["colour_trend"] > 3


def test_the_motion_of_the_source_is_told_whatever_the_target(source, edited, mask) -> None:
    found = whole(source, styled(source))
    assert found["speed"] == pytest.approx(1.5, abs=0.4)
    assert found["speed_peak"] > found["speed"]
    assert found["moving_share"] > 0.8
    still = whole(np.repeat(source[:1], 4, axis=0), np.repeat(source[:1], 4, axis=0))
    assert (still["speed"], still["moving_share"]) == (pytest.approx(0, abs=0.05), 0)


def test_a_halo_lies_along_the_contour(source, edited, mask) -> None:
    haloed = edited.copy()
    for t in range(FRAMES):
        band = (cv2.dilate(mask[t].view(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~mask[t]
        haloed[t][band] = 250
    assert local(source, haloed, mask)["halo"] > 50 + local(source, edited, mask)["halo"]


def test_a_soft_edge_of_a_strong_edit_is_no_halo(source, mask) -> None:
    """However much an edit changes, its soft edge has less of it outside the contour than inside."""
    alpha = np.stack([cv2.GaussianBlur(m.astype(np.float32), (0, 0), 1.5) for m in mask])[..., None]
    soft = ((1 - alpha) * source).round().astype(np.uint8)
    found = local(source, soft, mask)
    assert found["halo_worst"] > 10
    assert found["halo_excess"] < 1
    ringed = soft.copy()
    for t in range(FRAMES):
        ringed[t][(cv2.dilate(mask[t].view(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~mask[t]] = 250
    assert local(source, ringed, mask)["halo_excess"] > 15


def test_a_ghost_is_what_is_left_of_the_object(source, mask) -> None:
    empty = source.copy()
    empty[mask] = 120
    ghost = (0.7 * empty + 0.3 * source).round().astype(np.uint8)
    assert local(source, empty, mask, removes=True)["leftover"] < 0.1
    assert local(source, ghost, mask, removes=True)["leftover"] == pytest.approx(0.3, abs=0.1)


def test_an_outline_that_loses_its_object(source, edited, mask) -> None:
    gone = mask.copy()
    gone[8:] = False
    assert measure_pair(Pair(source, edited, region=mask, outline=gone))["outline_lost"] == 0.5
    still = mask.copy()
    still[8:] = mask[8]
    found = measure_pair(Pair(source, edited, region=mask, outline=still))
    assert found["outline_lost"] == 0
    assert found["edit_in_outline"] < 0.7
    leaves = np.zeros_like(mask)
    for t in range(8):
        leaves[t, 30:60, : 40 - 5 * t] = True
    assert measure_pair(Pair(source, edited, region=mask, outline=leaves))["outline_lost"] == 0, "it walked off"


def test_similarity_is_one_of_equals_and_less_of_others() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)
    assert structural_similarity(picture, picture).min() == pytest.approx(1, abs=1e-3)
    assert structural_similarity(picture, 255 - picture).mean() < 0
    plain = structural_similarity(np.full((20, 20), 100, np.uint8), np.full((20, 20), 110, np.uint8)).mean()
    assert plain == pytest.approx((2 * 100 * 110 + 6.5) / (100**2 + 110**2 + 6.5), abs=1e-3)


def test_shapes_that_do_not_fit_are_named(source) -> None:
    with pytest.raises(ValueError, match=r"the target is \(15, .*, and the source asks for \(16"):
        Pair(source, source[1:])


def test_a_clip_of_two_frames_and_an_empty_mask_are_measured(source, mask) -> None:
    assert measure_pair(Pair(source[:2], source[:2]))["sharpness"] == 1
    found = measure_pair(Pair(source, source, region=np.zeros_like(mask), outline=np.zeros_like(mask)))
    assert found["outline_lost"] == 1
