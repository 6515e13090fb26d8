"""The moving objects of the sample scenes: cut from photographs, or solids textured with photographs.

An actor is a function `draw(t)` for t in 0..1 (start to end of the clip). It returns the object's picture, float32
(h, w, 4), premultiplied colour and alpha in 0..1, including a soft shadow; and the object's own alpha, float32 (h, w).
Both are in pixels of a 720p frame, with the object's centre in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.sample.photos import disparity, enlarge, photo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Alpha = NDArray[np.float32]
    Canvas = tuple[NDArray[np.float32], Alpha]
    Draw = Callable[[float], Canvas]

_SEED = 7
"""Seed of OpenCV's random numbers, with which GrabCut initialises its clusters."""


def _disc(radius: int) -> Image:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.uint8)


def _grabcut_outline(image: Image, shape: Image, inside: int, outside: int) -> Image:
    """Refine a rough `shape` (0/1) to the object's real outline by GrabCut in a band around the shape's border."""
    labels = np.full(shape.shape, cv2.GC_BGD, np.uint8)
    labels[cv2.dilate(shape, _disc(outside)) > 0] = cv2.GC_PR_FGD
    labels[cv2.erode(shape, _disc(inside), borderValue=1) > 0] = cv2.GC_FGD
    cv2.setRNGSeed(_SEED)
    cv2.grabCut(image, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    found = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    return _largest(found)


def _largest(mask: Image) -> Image:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return mask
    return (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)


def _sprite(image: Image, mask: Image, width: int, *, open_below: bool = False) -> NDArray[np.float32]:
    """Crop an object, scale it to `width` and soften its edge: float32 (h, w, 4), premultiplied."""
    ys, xs = np.nonzero(mask)
    box = slice(int(ys.min()), int(ys.max()) + 1), slice(int(xs.min()), int(xs.max()) + 1)
    colour = enlarge(image[box], width).astype(np.float32) / 255
    size = colour.shape[1::-1]
    # Shrink by a pixel: the outermost pixels of a cut-out contain the colour of its old background.
    thin = cv2.erode(mask, _disc(1), borderValue=1 if open_below else 0)[box].astype(np.float32)
    alpha = cv2.resize(thin, size, interpolation=cv2.INTER_CUBIC)
    alpha = np.clip((cv2.GaussianBlur(alpha, (0, 0), 0.7 * width / (box[1].stop - box[1].start)) - 0.2) / 0.6, 0, 1)
    if open_below:
        alpha[-2:] = alpha[-3]
    return np.dstack([colour * alpha[..., None], alpha])


def _with_shadow(sprite: NDArray[np.float32], pad: int, shadow: Alpha | None = None) -> Canvas:
    """Pad a sprite by `pad` and composite it over a shadow, float32 of the padded size."""
    wide = cv2.copyMakeBorder(sprite, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    alpha = np.ascontiguousarray(wide[..., 3])
    if shadow is not None:
        wide[..., 3] = alpha + shadow * (1 - alpha)
    return wide, alpha


def _ellipse(size: tuple[int, int], centre: tuple[float, float], axes: tuple[float, float], soft: float) -> Alpha:
    shadow = np.zeros(size, np.float32)
    at, half = (round(centre[0]), round(centre[1])), (round(axes[0]), round(axes[1]))
    cv2.ellipse(shadow, at, half, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(shadow, (0, 0), soft)


def astronaut() -> Draw:
    """Return a person from the chest up with a helmet in her arm, swaying as she walks."""
    image = photo("astronaut")
    outline = [
        (38, 511), (24, 470), (20, 430), (22, 380), (24, 330), (35, 300), (50, 268), (75, 235), (100, 217), (115, 200),
        (113, 188), (120, 175), (128, 160), (145, 151), (165, 148), (182, 148), (180, 130), (172, 122), (162, 110),
        (154, 90), (153, 75), (158, 55), (172, 42), (192, 33), (200, 24), (222, 16), (240, 16), (262, 22), (283, 38),
        (297, 62), (301, 82), (298, 108), (288, 125), (276, 136), (268, 140), (262, 160), (258, 175), (275, 185),
        (293, 207), (303, 232), (304, 238), (320, 243), (335, 255), (345, 275), (352, 300), (362, 340), (380, 343),
        (400, 342), (430, 348), (455, 365), (475, 395), (490, 430), (500, 455), (505, 500), (510, 511),
    ]  # fmt: skip
    shape = cv2.fillPoly(np.zeros(image.shape[:2], np.uint8), [np.array(outline, np.int32)], 1)
    sprite = _sprite(image, _grabcut_outline(image, shape, 5, 5), 470, open_below=True)
    # Extended below, so that the frame crops her and not the photograph.
    sprite = cv2.copyMakeBorder(sprite, 0, 40, 0, 0, cv2.BORDER_REPLICATE)
    return lambda t: _with_shadow(_sway(sprite, t), 12)


def _sway(sprite: NDArray[np.float32], t: float) -> NDArray[np.float32]:
    """Bend a standing figure about its foot by up to 11 pixels, four times per clip."""
    height, width = sprite.shape[:2]
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    up = (1 - ys / height) ** 2
    shift = 9 * up * np.float32(math.sin(8 * math.pi * t)) + 2 * np.sin(ys / 40 + np.float32(10 * math.pi * t))
    return cv2.remap(sprite, xs + shift.astype(np.float32), ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def motorcycle() -> Draw:
    """Return a red motorcycle, cut out by the photograph's measured disparity."""
    image, depth = photo("motorcycle"), disparity()
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]]
    floor = -0.0048 * xs + 0.17842 * ys - 30.49  # the garage floor's plane, fitted to its pixels
    mask = ((depth - np.maximum(floor, 0) > 1.5) & (depth > 36)).astype(np.uint8)
    beside = [(687, 360), (741, 360), (741, 500), (560, 500), (640, 449), (668, 449), (684, 430), (688, 400)]
    cv2.fillPoly(mask, [np.array(beside, np.int32)], 0)  # floor as near as the front wheel
    mask = _largest(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _disc(2)))
    sprite = _sprite(image, mask, 500)
    height, width = sprite.shape[:2]
    pad = 24
    size = height + 2 * pad, width + 2 * pad
    shadow = np.zeros(size, np.float32)
    for x, y, half in ((0.17, 0.79, 62), (0.86, 0.985, 56)):
        shadow = np.maximum(shadow, 0.6 * _ellipse(size, (pad + x * width, pad + y * height), (half, 7), 5))
    still = _with_shadow(sprite, pad, shadow)
    return lambda _: still


def cup() -> Draw:
    """Return a red cup of coffee on its saucer."""
    image = photo("coffee")
    shape = np.zeros(image.shape[:2], np.uint8)
    cv2.ellipse(shape, (278, 222), (202, 160), 0, 0, 360, 1, -1)
    cv2.ellipse(shape, (280, 110), (112, 90), 0, 0, 360, 1, -1)
    sprite = _sprite(image, _grabcut_outline(image, shape, 28, 12), 300)
    height, width = sprite.shape[:2]
    size = height + 48, width + 48
    shadow = 0.55 * _ellipse(size, (24 + width / 2, 24 + height * 0.63), (width * 0.46, height * 0.36), 6)
    still = _with_shadow(sprite, 24, shadow)
    return lambda _: still


def coin() -> Draw:
    """Return a bronze coin that rotates in its plane, seen from above."""
    face = enlarge(photo("coins")[150:224, 309:387], 260)[..., 0].astype(np.float32) / 255
    metal = np.clip((face - 0.25) / 0.6, 0, 1)[..., None]
    colour = np.array([0.30, 0.17, 0.05], np.float32) * (1 - metal) + np.array([1.0, 0.80, 0.42], np.float32) * metal
    height, width = face.shape
    centre = (347.5 - 309) / 78 * width, (187 - 150) / 74 * height
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    edge = np.hypot((xs - centre[0]) / 1.02, ys - centre[1])
    alpha = np.clip(103 - edge, 0, 1)
    sprite = np.dstack([colour * alpha[..., None], alpha]).astype(np.float32)
    pad = 40
    size = height + 2 * pad, width + 2 * pad
    shadow = 0.6 * _ellipse(size, (pad + centre[0] + 4, pad + centre[1] + 6), (103, 102), 5)

    def canvas(t: float) -> Canvas:
        turn = cv2.getRotationMatrix2D(centre, -540 * t, 1.0)
        return _with_shadow(cv2.warpAffine(sprite, turn, (width, height), flags=cv2.INTER_LINEAR), pad, shadow)

    return canvas


def ball(radius: int = 84, turns: float = 2.2) -> Draw:
    """Return a glossy ball, a sphere textured with a photograph, rolling to the right."""
    skin = cv2.GaussianBlur(photo("retina")[250:1150, 250:1150], (0, 0), 1.0)
    size = 2 * radius + 3
    ys, xs = (np.mgrid[:size, :size].astype(np.float32) - (size - 1) / 2) / radius
    flat = np.hypot(xs, ys)
    alpha = np.clip((1 - flat) * radius + 0.5, 0, 1).astype(np.float32)
    depth = np.sqrt(np.clip(1 - flat**2, 0, 1))
    light = np.array([-0.45, -0.65, 0.61], np.float32)
    lit = np.clip(xs * light[0] + ys * light[1] + depth * light[2], 0, 1)
    shine = np.clip(2 * lit * depth - light[2], 0, 1) ** 24
    pad = 24
    box = size + 2 * pad, size + 2 * pad
    foot = 0.7 * _ellipse(box, (pad + radius + 4, pad + 2 * radius - 3), (radius * 0.62, radius * 0.10), 6)

    def canvas(t: float) -> Canvas:
        angle = -2 * math.pi * turns * t
        c, s = math.cos(angle), math.sin(angle)
        # Rolling to the right rotates the sphere about the axis of view; it is tilted, so that both poles are visible.
        x, y, z = c * xs - s * ys, s * xs + c * ys, depth
        y, z = 0.8 * y - 0.6 * z, 0.6 * y + 0.8 * z
        u = (np.arctan2(x, z) / math.pi * 0.5 + 0.5) * (skin.shape[1] - 1)
        v = (np.arcsin(np.clip(y, -1, 1)) / math.pi + 0.5) * (skin.shape[0] - 1)
        mirrored = np.abs(2 * u - skin.shape[1] + 1)  # both halves meet without a seam
        colour = cv2.remap(skin, mirrored.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR)
        shaded = colour.astype(np.float32) / 255 * (0.28 + 0.85 * lit)[..., None] + 0.6 * shine[..., None]
        sprite = np.dstack([np.clip(shaded, 0, 1) * alpha[..., None], alpha])
        return _with_shadow(sprite, pad, foot)

    return canvas


def crate(side: float = 78) -> Draw:
    """Return a wooden crate that rotates about its vertical axis, seen from slightly above."""
    wood = photo("coffee")[215:385, 470:600]
    face = cv2.resize(wood, (160, 160), interpolation=cv2.INTER_CUBIC)
    frame = np.ones((160, 160), np.float32)
    cv2.rectangle(frame, (0, 0), (159, 159), 0.72, 22)
    cv2.rectangle(frame, (16, 16), (143, 143), 0.45, 2)
    cv2.line(frame, (18, 142), (142, 18), 0.78, 16)
    panel = np.dstack([face.astype(np.float32) / 255 * frame[..., None], np.ones((160, 160), np.float32)])
    source = np.array([[0, 0], [160, 0], [160, 160], [0, 160]], np.float32)
    size = int(4.2 * side)
    middle = size / 2
    corners = {
        "front": ((-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)),
        "right": ((1, -1, 1), (1, -1, -1), (1, 1, -1), (1, 1, 1)),
        "back": ((1, -1, -1), (-1, -1, -1), (-1, 1, -1), (1, 1, -1)),
        "left": ((-1, -1, -1), (-1, -1, 1), (-1, 1, 1), (-1, 1, -1)),
        "top": ((-1, -1, -1), (1, -1, -1), (1, -1, 1), (-1, -1, 1)),
    }

    def project(point: tuple[int, int, int], angle: float) -> tuple[float, float]:
        x = point[0] * math.cos(angle) + point[2] * math.sin(angle)
        z = -point[0] * math.sin(angle) + point[2] * math.cos(angle)
        y, z = point[1] * 0.94 + z * 0.34, z * 0.94 - point[1] * 0.34
        near = side * 7 / (7 - z)
        return middle + x * near, middle + y * near

    def canvas(t: float) -> Canvas:
        angle = 0.35 + 2.2 * t
        sprite = np.zeros((size, size, 4), np.float32)
        below = [project((x, 1, z), angle) for x, z in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        shadow = np.zeros((size, size), np.float32)
        cv2.fillConvexPoly(shadow, np.rint(np.array(below) + np.array([3, 5])).astype(np.int32), 0.75)
        for name, face_corners in corners.items():
            target = np.array([project(p, angle) for p in face_corners], np.float32)
            a, b = target[1] - target[0], target[3] - target[0]
            if a[0] * b[1] - a[1] * b[0] <= 0:
                continue  # turned away
            turn = math.sin(
                angle + {"front": 0, "right": math.pi / 2, "back": math.pi, "left": -math.pi / 2}.get(name, 0)
            )
            bright = 1.35 if name == "top" else 0.95 - 0.35 * turn
            warp = cv2.getPerspectiveTransform(source, target)
            drawn = cv2.warpPerspective(panel, warp, (size, size), flags=cv2.INTER_AREA)
            drawn[..., :3] = np.minimum(drawn[..., :3] * np.float32(bright), drawn[..., 3:])
            sprite = drawn + sprite * (1 - drawn[..., 3:])
        return _with_shadow(sprite, 0, cv2.GaussianBlur(shadow, (0, 0), 4))

    return canvas
