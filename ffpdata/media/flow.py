"""Motion between frames: the camera's path, dense optical flow, and the warp error of a clip.

Homographies are float64 (3, 3) and map pixel coordinates (x, y, 1) of one frame to those of another. Flow is float32
(H, W, 2), pixels: the point (x, y) of the first frame lies at (x, y) + flow in the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Gray = NDArray[np.uint8]
    Masks = NDArray[np.bool_]
    Matrix = NDArray[np.float64]
    Flow = NDArray[np.float32]

STILL_PX = 0.35
"""A camera counts as still where the corners of the picture move less than this, in pixels."""

FLOW_WIDTH = 480
"""Width at which temporal consistency is measured: flow is then cheap and grain is averaged out."""

_MIN_POINTS = 24
_KEEP = 0.45
"""A new keyframe is chosen where fewer than this fraction of the old one's points are found."""


@dataclass(frozen=True)
class CameraPath:
    """How the camera moved.

    Attributes:
        to_reference: float64 (T, 3, 3), maps pixels of frame t to pixels of the reference frame.
        reference: index of the reference frame.
        inliers: float64 (T,) in 0..1, the fraction of tracked background points that move as the homography says; 0
            where none could be estimated and the previous frame's matrix was used.
        still: whether the camera does not move; `to_reference` is then exactly the identity.
    """

    to_reference: Matrix
    reference: int
    inliers: NDArray[np.float64]
    still: bool


def gray(frame: NDArray[np.uint8], width: int | None = None) -> Gray:
    """Convert one RGB frame, uint8 (H, W, 3), to gray, uint8 (h, w), at most `width` wide."""
    plain = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return plain if width is None else shrink_to_width(plain, width)


def shrink_to_width(image: NDArray[Any], width: int) -> NDArray[Any]:
    """Resize an image (H, W) or (H, W, C) to at most `width` pixels wide, averaging areas."""
    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def camera_path(
    frames: Frames, masks: Masks | None = None, *, width: int | None = None, points: int = 500
) -> CameraPath:
    """Estimate the homography from every frame to the middle one, by points tracked from keyframes.

    Tracking from keyframes, not from frame to frame, keeps errors from adding up: a camera that stands still or comes
    back is recovered to a few hundredths of a pixel.

    Args:
        frames: uint8 (T, H, W, 3) RGB, or (T, H, W) gray.
        masks: bool (T, H, W): points on the mask are not used, e.g. because an object moves there.
        width: frames are tracked at this width where they are wider; the matrices are those of the full size.
        points: how many points of a keyframe are tracked; time grows with it.

    Returns:
        The camera path; every matrix is finite.
    """
    count, height, full = frames.shape[:3]
    scale = min(1.0, (width or full) / full)

    def load(t: int) -> Gray:
        image = frames[t] if frames.ndim == 3 else gray(frames[t])
        return image if width is None else shrink_to_width(image, width)

    def free(t: int, shape: tuple[int, ...]) -> Gray | None:
        if masks is None or not masks[t].any():
            return None
        hidden = cv2.resize(masks[t].view(np.uint8), shape[::-1], interpolation=cv2.INTER_AREA)
        return (cv2.dilate(hidden, np.ones((9, 9), np.uint8)) == 0).astype(np.uint8)

    reference = count // 2
    paths = np.tile(np.eye(3), (count, 1, 1))
    inliers = np.ones(count)
    first = load(reference)
    for order in (range(reference + 1, count), range(reference - 1, -1, -1)):
        key_gray, key_path = first, np.eye(3)
        key_points = _points(key_gray, free(reference, key_gray.shape), points)
        last_gray, last_path, speed = first, np.eye(3), np.eye(3)
        for t in order:
            now = load(t)
            hidden = free(t, now.shape)
            guess = np.linalg.inv(key_path) @ last_path @ speed
            found, share = _track(key_gray, now, key_points, np.linalg.inv(guess), hidden)
            if found is None or share < _KEEP:
                before = t - order.step
                key_gray, key_path = last_gray, last_path
                key_points = _points(key_gray, free(before, key_gray.shape), points)
                found, share = _track(key_gray, now, key_points, np.linalg.inv(speed), hidden)
            if found is None:
                paths[t], inliers[t] = last_path, 0.0
                speed = np.eye(3)
            else:
                paths[t], inliers[t] = key_path @ np.linalg.inv(found), share
                speed = np.linalg.inv(last_path) @ paths[t]
            last_gray, last_path = now, paths[t]

    size = np.diag([scale, scale, 1.0])
    paths = np.linalg.inv(size) @ paths @ size
    paths /= paths[:, 2:, 2:]
    still = bool(np.quantile(corner_shift(paths, full, height), 0.95) < STILL_PX and inliers.min() > 0)
    if still:
        paths = np.tile(np.eye(3), (count, 1, 1))
    return CameraPath(paths, reference, inliers, still)


def corner_shift(paths: Matrix, width: int, height: int) -> NDArray[np.float64]:
    """Return how far the farthest corner of a `width` x `height` frame moves under `paths` (T, 3, 3): (T,), pixels."""
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], np.float64).T
    moved = paths @ corners
    moved = moved[:, :2] / moved[:, 2:]
    return np.hypot(*(moved - corners[:2]).transpose(1, 0, 2)).max(axis=1)


def _points(image: Gray, free: Gray | None, most: int) -> Flow:
    """Pick well-spread corners, float32 (N, 1, 2)."""
    distance = max(4.0, image.shape[1] / 48 * (500 / most) ** 0.5)
    found = cv2.goodFeaturesToTrack(image, most, 0.003, distance, mask=free, blockSize=5)
    return np.zeros((0, 1, 2), np.float32) if found is None else found


def _track(key: Gray, now: Gray, points: Flow, guess: Matrix, free: Gray | None) -> tuple[Matrix | None, float]:
    """Estimate the homography from `key` to `now` and the fraction of `points` that agree with it."""
    if len(points) < _MIN_POINTS:
        return None, 0.0
    start = cv2.perspectiveTransform(points.astype(np.float64), guess).astype(np.float32)
    settings: dict[str, Any] = {
        "winSize": (21, 21),
        "maxLevel": 3,
        "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01),
        "flags": cv2.OPTFLOW_USE_INITIAL_FLOW,
    }
    there, ok, _ = cv2.calcOpticalFlowPyrLK(key, now, points, start.copy(), **settings)
    back, ok_back, _ = cv2.calcOpticalFlowPyrLK(now, key, there, points.copy(), **settings)
    height, width = now.shape
    x, y = there[:, 0, 0], there[:, 0, 1]
    good = (ok[:, 0] > 0) & (ok_back[:, 0] > 0) & (np.abs(back - points).max(axis=(1, 2)) < 0.5)
    good &= (x >= 2) & (y >= 2) & (x < width - 2) & (y < height - 2)
    if free is not None:
        good[good] = free[y[good].astype(int), x[good].astype(int)] > 0
    if good.sum() < _MIN_POINTS:
        return None, 0.0
    cv2.setRNGSeed(3)
    threshold = max(0.5, width / 1280)
    matrix, agree = cv2.findHomography(points[good], there[good], cv2.USAC_MAGSAC, threshold, maxIters=2000)
    if matrix is None or not np.isfinite(matrix).all() or agree.sum() < _MIN_POINTS:
        return None, 0.0
    kept = agree[:, 0] > 0
    refined, _ = cv2.findHomography(points[good][kept], there[good][kept], 0)
    matrix = matrix if refined is None else refined
    warped = corner_shift(matrix[None] / matrix[2, 2], width, height)[0]
    if not 0.5 < np.linalg.det(matrix[:2, :2] / matrix[2, 2]) < 2 or warped > 1.5 * width:
        return None, 0.0
    return matrix, float(kept.sum() / len(points))


def dense_flow(first: Gray, second: Gray, *, fine: bool = False) -> Flow:
    """Dense optical flow (DIS) from `first` to `second`, both uint8 (H, W): float32 (H, W, 2) pixels."""
    preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM if fine else cv2.DISOPTICAL_FLOW_PRESET_FAST
    return cv2.DISOpticalFlow_create(preset).calc(first, second, None)


@lru_cache(maxsize=4)
def pixel_grid(height: int, width: int) -> Flow:
    """Return x and y of every pixel, float32 (H, W, 2), read-only."""
    ys, xs = np.mgrid[:height, :width]
    made = np.dstack([xs, ys]).astype(np.float32)
    made.flags.writeable = False
    return made


def camera_flow(matrix: Matrix, height: int, width: int) -> Flow:
    """Return the flow of a homography, float32 (H, W, 2), pixels."""
    here = pixel_grid(height, width)
    return cv2.perspectiveTransform(here.astype(np.float64), matrix).astype(np.float32) - here


def backward_warp(image: NDArray[Any], flow: Flow, *, nearest: bool = False) -> NDArray[Any]:
    """Warp the second frame, `image` (H, W[, C]), onto the first by `flow` from first to second; same dtype."""
    at = pixel_grid(*flow.shape[:2]) + flow
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return cv2.remap(image, at, None, how, borderMode=cv2.BORDER_REPLICATE)


def warp_error(frames: Frames, masks: Masks | None = None, *, pairs: Sequence[int] | None = None) -> float:
    """Measure temporal consistency: mean difference between a frame and its successor warped back by their flow.

    Args:
        frames: uint8 (T, H, W, 3) RGB.
        masks: bool (T, H, W): only pixels in the masks of both frames count.
        pairs: first frames of the pairs to compare; all where None.

    Returns:
        Mean absolute gray difference in levels of 255; 0 is steady, above about 3 a person sees flicker or tearing.
        0.0 where nothing could be compared.
    """
    total, number = 0.0, 0.0
    for t in range(len(frames) - 1) if pairs is None else pairs:
        first, second = gray(frames[t], FLOW_WIDTH), gray(frames[t + 1], FLOW_WIDTH)
        if masks is not None:
            size = first.shape[::-1]
            both = masks[t] & masks[t + 1]
            inside = cv2.resize(both.view(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
            if not inside.any():
                continue
        else:
            inside = np.ones(first.shape, bool)
        difference = np.abs(backward_warp(second, dense_flow(first, second)).astype(np.float32) - first)
        total += float(difference[inside].sum())
        number += float(inside.sum())
    return total / number if number else 0.0
