"""Style references for the stylization track, rendered from photographs by small deterministic programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.sample.photos import clip_frame, enlarge, photo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Plane = NDArray[np.float32]

SIZE = 640
"""Side of a style image in pixels."""


def _square(image: Image) -> Image:
    """Crop the middle square and resize it to `SIZE`."""
    side = min(image.shape[:2])
    y, x = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return enlarge(np.ascontiguousarray(image[y : y + side, x : x + side]), SIZE)


def _vivid(image: Image, saturation: float, contrast: float = 1.0) -> Image:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 1] = np.clip(hsv[..., 1] * saturation + 14, 0, 255)
    hsv[..., 2] = np.clip((hsv[..., 2] - 128) * contrast + 128, 0, 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


def _flow_angle(grey: Image, soft: float) -> Plane:
    """Return the direction along the edges of a picture, by its smoothed structure tensor: float32 (H, W), radians."""
    plane = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 2)
    dx, dy = cv2.Sobel(plane, cv2.CV_32F, 1, 0), cv2.Sobel(plane, cv2.CV_32F, 0, 1)
    jxx, jyy, jxy = (cv2.GaussianBlur(p, (0, 0), soft) for p in (dx * dx, dy * dy, dx * dy))
    return (0.5 * np.arctan2(2 * jxy, jxx - jyy) + np.pi / 2).astype(np.float32)


def oil() -> Image:
    """Thick brush strokes that swirl along the forms, coarse below, fine on top."""
    image = _vivid(_square(photo("rocket")[:, 60:580]), 1.7, 1.25)
    rng = np.random.default_rng(11)
    angle = _flow_angle(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 14)
    ys, xs = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    swirl = np.arctan2(ys - 150, xs - 470) + np.pi / 2
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    flat = cv2.GaussianBlur(np.abs(cv2.Laplacian(grey, cv2.CV_32F)), (0, 0), 9) < 3
    angle = np.where(flat, swirl, angle)
    canvas = cv2.GaussianBlur(image, (0, 0), 12)
    relief = np.zeros((SIZE, SIZE), np.float32)
    for length, thick, step in ((44, 15, 12), (26, 9, 8), (15, 5, 6)):
        smooth = cv2.GaussianBlur(image, (0, 0), thick / 2)
        off = np.abs(canvas.astype(np.int16) - smooth).sum(axis=2)
        spots = [(y, x) for y in range(0, SIZE, step) for x in range(0, SIZE, step)]
        for number in rng.permutation(len(spots)):
            y, x = np.clip(np.array(spots[number]) + rng.integers(-step, step + 1, 2), 0, SIZE - 1)
            if off[y, x] < 18 and thick < 15:
                continue
            half = 0.5 * length * float(rng.uniform(0.7, 1.2))
            turn = float(angle[y, x] + rng.normal(0, 0.15))
            dx, dy = half * np.cos(turn), half * np.sin(turn)
            colour = np.clip(smooth[y, x].astype(int) + rng.integers(-20, 21, 3) + int(rng.integers(-16, 17)), 0, 255)
            start, end = (int(x - dx), int(y - dy)), (int(x + dx), int(y + dy))
            cv2.line(canvas, start, end, tuple(int(c) for c in colour), thick, cv2.LINE_AA)
            cv2.line(relief, start, end, float(rng.uniform(-1, 1)), thick, cv2.LINE_AA)
    bump = cv2.Sobel(cv2.GaussianBlur(relief, (0, 0), 1), cv2.CV_32F, 1, 1)
    return np.clip(canvas.astype(np.float32) + 26 * np.clip(bump, -1, 1)[..., None], 0, 255).astype(np.uint8)


def woodcut() -> Image:
    """Black ink on cream paper: lines that follow the form and swell where it is dark."""
    grey = cv2.cvtColor(_square(photo("chelsea")), cv2.COLOR_RGB2GRAY)
    tone = cv2.createCLAHE(2.5, (4, 4)).apply(cv2.GaussianBlur(grey, (0, 0), 2.5)).astype(np.float32) / 255
    angle = _flow_angle(grey, 10)
    rng = np.random.default_rng(12)
    field = rng.random((SIZE, SIZE)).astype(np.float32)
    field = cv2.GaussianBlur(field, (0, 0), 2.2)
    ys, xs = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    total = np.zeros_like(field)
    for sign in (-1, 1):  # smear noise along the form: line integral convolution
        px, py = xs.copy(), ys.copy()
        last = angle if sign > 0 else angle + np.float32(np.pi)
        for _ in range(16):
            here = cv2.remap(angle, px, py, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            here = np.where(np.cos(here - last) < 0, here + np.float32(np.pi), here)
            px, py, last = px + 1.4 * np.cos(here), py + 1.4 * np.sin(here), here
            total += cv2.remap(field, px, py, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    low = cv2.GaussianBlur(total, (0, 0), 8)
    total = (total - low) / (np.sqrt(cv2.GaussianBlur((total - low) ** 2, (0, 0), 20)) + 1e-6)
    ink = 1 / (1 + np.exp(-9 * (1.35 * total - 4.4 * (tone - 0.47))))
    paper, black = np.array([240, 228, 200], np.float32), np.array([26, 20, 24], np.float32)
    return np.clip(paper * ink[..., None] + black * (1 - ink[..., None]), 0, 255).astype(np.uint8)


def stained_glass() -> Image:
    """Panes of glowing glass between dark leads."""
    image = _vivid(_square(clip_frame("bigbuckbunny", 60)[:, 240:1000]), 1.6, 1.3)
    rng = np.random.default_rng(13)
    seeds = np.ones((SIZE, SIZE), np.uint8)
    step = 40
    for y in range(step // 2, SIZE, step):
        for x in range(step // 2, SIZE, step):
            sy, sx = np.clip(np.array([y, x]) + rng.integers(-17, 18, 2), 0, SIZE - 1)
            seeds[sy, sx] = 0
    labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    count = int(labels.max()) + 1
    sums = np.stack([np.bincount(labels.ravel(), image[..., c].ravel().astype(np.float64), count) for c in range(3)], 1)
    panes = (sums / np.maximum(np.bincount(labels.ravel(), minlength=count), 1)[:, None])[labels].astype(np.uint8)
    panes = _vivid(panes, 1.35, 1.15).astype(np.float32)
    wavy = cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)).astype(np.float32), (0, 0), 7)
    panes *= (1 + 1.6 * wavy)[..., None]
    edge = cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    away = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5)
    lead = np.clip((away - 1.5) / 1.5, 0, 1)[..., None]
    glow = 0.82 + 0.3 * np.clip(away / 16, 0, 1)[..., None]
    return np.clip(panes * glow * lead + 22 * (1 - lead), 0, 255).astype(np.uint8)


def pop_art() -> Image:
    """Four flat inks and printed dots."""
    image = _square(photo("astronaut"))
    grey = cv2.createCLAHE(2.0, (4, 4)).apply(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    tone = cv2.bilateralFilter(grey, 9, 40, 9).astype(np.float32) / 255
    inks = np.array([[28, 18, 74], [226, 30, 110], [255, 196, 20], [120, 224, 232]], np.float32)
    flat = inks[np.digitize(tone, [0.24, 0.5, 0.76])]
    ys, xs = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    u, v = (xs + ys) / 11.0, (xs - ys) / 11.0
    dots = np.hypot(u - np.rint(u), v - np.rint(v)) < 0.42 * np.clip(1.25 - tone, 0.1, 0.9)
    flat[dots & (tone > 0.24) & (tone < 0.76)] *= 0.72
    lines = cv2.dilate(cv2.Canny(cv2.GaussianBlur(grey, (0, 0), 2), 40, 110), np.ones((3, 3), np.uint8)) > 0
    flat[lines] = (24, 14, 40)
    return cv2.GaussianBlur(np.clip(flat, 0, 255).astype(np.uint8), (0, 0), 0.6)


STYLES = {
    "oil": (oil, ("rocket",)),
    "pop_art": (pop_art, ("astronaut",)),
    "stained_glass": (stained_glass, ("bigbuckbunny",)),
    "woodcut": (woodcut, ("chelsea",)),
}
"""File stem to the function that renders it, and its photographs."""
