"""What a model is shown, held by small pictures worked out by hand."""

import numpy as np
import pytest

from ffpdata.media import conditioning as c
from ffpdata.stages.condition import Region, apply_region

DISC = """
.........
.........
...###...
..#####..
..#####..
..#####..
...###...
.........
.........
"""
"""A round object on 9 x 9 pixels."""


def masks_of(text):
    return np.array([[char == "#" for char in line] for line in text.split()])[None]


def text_of(masks):
    return "\n" + "\n".join("".join(".#"[int(v)] for v in row) for row in masks[0]) + "\n"


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    masks = np.zeros((5, 32, 48), bool)
    masks[:, 8:20, 10:30] = True
    masks[4] = False
    return rng.integers(0, 256, (5, 32, 48, 3), np.uint8), masks


# --- the region, per task (paper, section 3.1) ---


def test_swap_gets_the_eroded_mask_without_a_box():
    eroded = """
.........
.........
.........
...###...
...###...
...###...
.........
.........
.........
"""
    assert text_of(apply_region(masks_of(DISC), Region(erode=1))) == eroded


def test_the_boundary_is_a_band_on_either_side_of_the_contour():
    band = """
.........
...###...
..#####..
.##...##.
.##...##.
.##...##.
..#####..
...###...
.........
"""
    assert text_of(apply_region(masks_of(DISC), Region(boundary=1))) == band


def test_removal_gets_mask_and_box_and_a_margin():
    boxed = """
.........
.#######.
.#######.
.#######.
.#######.
.#######.
.#######.
.#######.
.........
"""
    found = apply_region(masks_of(DISC), Region(box=True, box_margin=0.2))
    assert text_of(found) == boxed
    assert (found | masks_of(DISC) == found).all()


def test_hull_closes_what_is_hollow():
    hollow = masks_of("......\n.#..#.\n.#..#.\n.####.\n......\n")
    assert text_of(apply_region(hollow, Region(hull=True))) == "\n......\n.####.\n.####.\n.####.\n......\n"


# --- blanking ---


def test_the_region_is_grey_and_the_rest_untouched(clip):
    frames, masks = clip
    shown = c.blank(frames, masks)
    assert (shown[masks] == 128).all()
    assert np.array_equal(shown[~masks], frames[~masks])
    assert np.array_equal(shown[4], frames[4])  # an empty mask hides nothing
    assert not np.shares_memory(shown, frames)


def test_nothing_of_the_object_is_left_whatever_it_was(clip):
    frames, masks = clip
    other = frames.copy()
    other[masks] = 255 - other[masks]
    assert np.array_equal(c.blank(frames, masks), c.blank(other, masks))


def test_white_is_generated():
    mask = np.array([[[True, False], [False, True]]])
    pictures = c.mask_frames(mask)
    assert pictures.dtype == np.uint8
    assert pictures.shape == (1, 2, 2, 3)
    assert set(np.unique(pictures)) == {0, 255}
    assert (pictures[0, 0, 0] == 255).all()
    assert (pictures[0, 0, 1] == 0).all()


def test_soft_masks_are_refused(clip):
    frames, masks = clip
    soft = np.array([[[0, 127, 128, 255]]], np.uint8)
    with pytest.raises(TypeError, match="binarise"):
        c.mask_frames(soft)
    with pytest.raises(TypeError, match="binarise"):
        c.blank(frames, masks.astype(np.uint8))


def test_what_does_not_fit_is_refused(clip):
    frames, masks = clip
    with pytest.raises(ValueError, match=r"masks \(4, 32, 48\) do not fit frames \(5, 32, 48\)"):
        c.blank(frames, masks[:4])
    with pytest.raises(TypeError, match="uint8"):
        c.blank(frames.astype(np.float32), masks)


# --- depth and reference ---


def test_near_is_white():
    depth = np.float32([[[0.0, 0.5, 1.0, 1.2]]])
    pictures = c.depth_frames(depth)
    assert pictures.shape == (1, 1, 4, 3)
    assert pictures[0, 0, :, 0].tolist() == [0, 128, 255, 255]
    assert (pictures == pictures[..., :1]).all()


def test_a_reference_is_not_bent():
    image = np.zeros((20, 10, 3), np.uint8)
    canvas = c.on_canvas(image, 32, 48)
    dark = (canvas == 0).all(axis=2)
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    assert (len(rows), len(columns)) == (32, 16)
    assert columns[0] == 16
    assert (canvas[~dark] == 255).all()
    assert c.on_canvas(image, 20, 10) is image


# --- the prompt, and after the model ---


def test_the_objects_name_leads_the_negative_prompt():
    assert c.negative_prompt("red car", "", " blurry, low quality, ") == "red car, blurry, low quality"
    assert c.negative_prompt("blurry", "blurry") == "blurry"
    assert c.negative_prompt("", "") == ""


def test_paste_back_keeps_the_edit_on_the_mask_and_the_source_far_off(clip):
    frames, masks = clip
    edited = np.full_like(frames, 200)
    out = c.paste_back(frames, edited, masks, 3)
    assert (out[masks] == 200).all()
    near = np.zeros_like(masks)
    near[:4, 4:24, 6:34] = True
    assert np.array_equal(out[~near], frames[~near])
    black = c.paste_back(np.zeros_like(frames), edited, masks, 3)[0, 14, 30:35, 0]
    assert black.tolist() == [150, 100, 50, 0, 0]
    assert np.array_equal(c.paste_back(frames, edited, masks, 0), np.where(masks[..., None], edited, frames))


def test_drift_is_measured_outside_the_mask(clip):
    frames, masks = clip
    moved = np.clip(frames.astype(int) + 3, 0, 255).astype(np.uint8)
    inside = frames.copy()
    inside[masks] = 0
    assert c.outside_drift(frames, inside, masks) == 0
    assert c.outside_drift(frames, moved, masks) == pytest.approx(3, abs=0.1)
    assert c.outside_drift(frames, moved, np.ones_like(masks)) == 0
