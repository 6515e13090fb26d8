import cv2
import numpy as np
import pytest
from scipy import ndimage

from ffpdata.media import masks as m

H, W = 72, 90


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    masks = np.zeros((6, H, W), bool)
    masks[0, :40, 30:70] = True  # touches the upper edge
    masks[1, 20:60, 20:75] = rng.random((40, 55)) > 0.03  # full of holes
    masks[2] = True
    masks[3, 10, 12] = True
    masks[4, 5:9, 80:] = masks[4, 60:, :20] = True  # two parts
    return masks  # the last one is empty


def disc(px):
    y, x = np.mgrid[-px : px + 1, -px : px + 1]
    return x * x + y * y <= px * px


@pytest.mark.parametrize("px", [1, 2, 5, m.KERNEL_MAX_PX, m.KERNEL_MAX_PX + 1, 23])
def test_erode_and_dilate_are_exact(clip, px):
    for mask, eroded, dilated in zip(clip, m.erode(clip, px), m.dilate(clip, px), strict=True):
        assert np.array_equal(eroded, ndimage.binary_erosion(mask, disc(px), border_value=1))
        assert np.array_equal(dilated, ndimage.binary_dilation(mask, disc(px)))


def test_radius_zero_changes_nothing_and_copies(clip):
    for operation in (m.erode, m.dilate):
        out = operation(clip, 0)
        assert np.array_equal(out, clip)
        assert not np.shares_memory(out, clip)


def test_the_frames_edge_does_not_erode():
    full = np.ones((1, H, W), bool)
    assert m.erode(full, 3).all()


def test_hull_fills_concavities_and_contains_the_mask(clip):
    hull = m.hull(clip)
    assert (hull | clip == hull).all()
    horseshoe = np.zeros((1, H, W), bool)
    horseshoe[0, 10:40, 10:40] = True
    horseshoe[0, 10:35, 18:32] = False
    assert m.area(m.hull(horseshoe))[0] == 900
    assert hull[4, 40, 40]  # between the two parts


def test_hull_of_random_points_is_their_convex_hull():
    rng = np.random.default_rng(3)
    masks = rng.random((2, H, W)) > 0.995
    for mask, hull in zip(masks, m.hull(masks), strict=True):
        corners = cv2.convexHull(cv2.findNonZero(mask.view(np.uint8)))
        assert hull[mask].all()
        for y, x in np.ndindex(hull.shape):
            distance = cv2.pointPolygonTest(corners, (float(x), float(y)), measureDist=True)
            assert distance >= -1 if hull[y, x] else distance <= 0


def test_box_widens_by_fraction_and_pixels_and_stays_in_the_frame():
    masks = np.zeros((3, H, W), bool)
    masks[0, 20:40, 30:60] = True
    masks[1, :10, 80:] = True
    filled = m.box(masks, margin_fraction=0.1, margin_px=2)
    assert m.bounding_boxes(filled).tolist() == [[25, 16, 65, 44], [77, 0, 90, 13], [0, 0, 0, 0]]
    assert m.area(filled).tolist() == [40 * 28, 13 * 13, 0]
    with pytest.raises(ValueError, match="margin_px -1"):
        m.box(masks, margin_px=-1)


def test_bounding_boxes_are_half_open_and_zero_where_empty(clip):
    assert m.bounding_boxes(clip).tolist() == [
        [30, 0, 70, 40], [20, 20, 75, 60], [0, 0, 90, 72], [12, 10, 13, 11], [0, 5, 90, 72], [0, 0, 0, 0],
    ]  # fmt: skip


def test_empty_masks_stay_empty():
    empty = np.zeros((2, H, W), bool)
    for out in (m.erode(empty, 3), m.dilate(empty, 3), m.hull(empty), m.box(empty, 0.5, 9), m.boundary(empty, 3)):
        assert out.dtype == bool
        assert not out.any()
    assert not m.feather(empty, 5).any()


def test_boundary_lies_on_both_sides_of_the_contour():
    masks = np.zeros((1, H, W), bool)
    masks[0, 20:50, 20:60] = True
    band = m.boundary(masks, 2)[0]
    assert band[20:22, 30].all()
    assert band[18:20, 30].all()
    assert not band[17, 30]
    assert not band[22, 30]


def test_area_and_iou():
    a, b = np.zeros((2, 3, H, W), bool)
    a[0, :10, :10] = b[0, :10, 5:15] = True
    a[1, :4, :4] = True
    assert m.area(a).tolist() == [100, 16, 0]
    assert m.iou(a, b) == pytest.approx([50 / 150, 0, 1])


def test_feather_falls_in_a_straight_line_outside_the_mask():
    masks = np.zeros((1, H, W), bool)
    masks[0, 20:50, 20:60] = True
    alpha = m.feather(masks, 4)
    assert alpha.dtype == np.float32
    assert (alpha[masks] == 1).all()
    assert alpha[0, 35, 60:66] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0, 0], abs=1e-6)
    assert np.array_equal(m.feather(masks, 0), masks.astype(np.float32))


@pytest.mark.parametrize("wrong", [np.zeros((2, 4, 4), np.uint8), np.zeros((4, 4), bool)])
def test_what_is_no_mask_is_refused(wrong):
    with pytest.raises(TypeError, match="masks must be bool"):
        m.erode(wrong, 1)
    with pytest.raises(ValueError, match="radius"):
        m.dilate(np.zeros((1, 4, 4), bool), -1)
