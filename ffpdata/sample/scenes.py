"""The ground-truth scenes: an actor in front of a photograph, with a static, a panning or a hand-held camera."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.sample import actors
from ffpdata.sample.photos import clip_frame, enlarge, photo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.media.geometry import Geometry

    Image = NDArray[np.uint8]
    Matrix = NDArray[np.float64]

GRAIN = 1.5
"""Standard deviation of the sensor noise in levels of 255."""

_SHUTTER = (-0.002, 0.0, 0.002)
"""Instants of one exposure: a third of a frame's time in a clip of 81 frames."""

Camera = Callable[[float], "Matrix"]
Path = Callable[[float], tuple[float, float, float, float]]


@dataclass(frozen=True)
class Scene:
    """One scene. Lengths are pixels of a 720p frame; t runs 0..1.

    Attributes:
        name: file stem.
        camera_kind: `static`, `pan` or `handheld`.
        object_name: the object, as a user would write it.
        user_names_object: whether the input table has the name.
        caption: the user's caption; empty where the pipeline writes it.
        sources: names of `photos.ORIGINS` in the scene.
        world: draws the background that the camera moves over.
        camera: 3x3 matrix from world to frame pixels.
        actor: draws the object.
        path: x and y of the object's centre in the world, its scale, and its rotation in degrees.
    """

    name: str
    camera_kind: str
    object_name: str
    user_names_object: bool
    caption: str
    sources: tuple[str, ...]
    world: Callable[[], Image]
    camera: Camera
    actor: Callable[[], actors.Draw]
    path: Path


def _ease(t: float) -> float:
    """Ease in and out: the mean of linear motion and a cosine."""
    return 0.5 * t + 0.25 * (1 - math.cos(math.pi * min(max(t, 0), 1)))


def _view(x: float, y: float, zoom: float = 1.0, degrees: float = 0.0) -> Matrix:
    """Return the matrix of a camera at `(x, y)`, its top left corner, zoomed and rotated about the frame's centre."""
    a = math.radians(degrees)
    c, s = zoom * math.cos(a), zoom * math.sin(a)
    turn = np.array([[c, -s, 640 - c * 640 + s * 360], [s, c, 360 - s * 640 - c * 360], [0, 0, 1]])
    return turn @ np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1.0]])


def _static(x: float, y: float) -> Camera:
    return lambda _: _view(x, y)


def _pan(start: tuple[float, float], end: tuple[float, float]) -> Camera:
    def camera(t: float) -> Matrix:
        e = _ease(t)
        return _view(start[0] + (end[0] - start[0]) * e, start[1] + (end[1] - start[1]) * e)

    return camera


def _handheld(x: float, y: float, amount: float = 1.0) -> Camera:
    """Return a camera that drifts and shakes: sines of incommensurable frequencies around `(x, y)`."""

    def wave(t: float, *parts: tuple[float, float, float]) -> float:
        return amount * sum(a * math.sin(2 * math.pi * f * t + p) for a, f, p in parts)

    def camera(t: float) -> Matrix:
        return _view(
            x + wave(t, (11, 0.9, 0.3), (5, 2.3, 1.1), (1.2, 7.7, 0.5), (0.5, 17.3, 2.0)),
            y + wave(t, (8, 0.7, 1.9), (4, 2.9, 0.2), (1.1, 8.9, 2.5), (0.5, 19.1, 1.0)),
            1.012 + wave(t, (0.005, 0.8, 0.0), (0.001, 3.1, 0.7)),
            wave(t, (0.35, 0.6, 0.8), (0.12, 2.7, 1.6), (0.03, 9.3, 0.1)),
        )

    return camera


def _pavement() -> Image:
    return enlarge(clip_frame("bikes", 226), 1720)


def _street() -> Image:
    return enlarge(clip_frame("bikes", 165), 1740)


def _garage() -> Image:
    return enlarge(photo("motorcycle"), 1400)


def _launchpad() -> Image:
    return enlarge(photo("rocket"), 1400)


def _meadow() -> Image:
    return enlarge(clip_frame("bigbuckbunny", 0)[120:640, 480:1280], 1340)


def _gravel() -> Image:
    stones = enlarge(photo("gravel"), 1024).astype(np.float32)
    tint = np.array([1.06, 0.98, 0.86], np.float32)
    tile = np.clip(stones * tint, 0, 255).astype(np.uint8)
    return np.tile(tile, (1, 2, 1))


SCENES = (
    Scene(
        "ball_static", "static", "ball", True,
        "The video shows a sunny green meadow with tall grass, dark blue trees, yellow flowers and flat grey rocks, "
        "where a red ball rolls along.",
        ("bigbuckbunny", "retina"), _meadow, _static(30, 60), actors.ball,
        lambda t: (150 + 990 * _ease(t), 560 + 55 * t + 6 * math.sin(19 * t), 1.0 + 0.15 * t, 0.0),
    ),
    Scene(
        "motorcycle_pan", "pan", "motorcycle", True, "",
        ("bikes", "motorcycle"), _street, _pan((12, 6), (440, 10)), actors.motorcycle,
        lambda t: (290 + 1150 * _ease(t), 520, 0.95 + 0.1 * t, 0.5 * math.sin(14 * t)),
    ),
    Scene(
        "astronaut_handheld", "handheld", "astronaut", True,
        "The video shows a white rocket on its launch pad at dusk, with steel towers and bright lamps under a dark "
        "blue sky, and an astronaut walking past.",
        ("rocket", "astronaut"), _launchpad, _handheld(56, 150), actors.astronaut,
        lambda t: (1070 - 790 * t, 648 + 7 * abs(math.sin(4 * math.pi * t)), 1.0, 0.0),
    ),
    Scene(
        "coin_pan", "pan", "coin", True, "",
        ("gravel", "coins"), _gravel, _pan((60, 40), (430, 260)), actors.coin,
        lambda t: (300 + 1060 * t, 300 + 330 * t + 40 * math.sin(5 * t), 1.0, 0.0),
    ),
    Scene(
        "cup_handheld", "handheld", "cup", False, "",
        ("bikes", "coffee"), _pavement, _handheld(200, 6, 0.8), actors.cup,
        lambda t: (400 + 880 * _ease(t), 560 + 18 * t, 0.88 + 0.06 * t, 3 * math.sin(7 * t)),
    ),
    Scene(
        "crate_static", "static", "crate", False, "",
        ("motorcycle", "coffee"), _garage, _static(0, 190), actors.crate,
        lambda t: (1150 - 900 * _ease(t), 690 + 70 * t, 0.8 + 0.2 * t, 0.0),
    ),
)  # fmt: skip


def render(scene: Scene, geometry: Geometry) -> Iterator[tuple[Image, Image, NDArray[np.bool_]]]:
    """Render a scene frame by frame.

    Yields:
        The clip's frame, uint8 (H, W, 3) RGB with grain; the background, the same without object, shadow and grain; and
        the object's mask, bool (H, W).
    """
    width, height, count = geometry.width, geometry.height, geometry.frames
    unit = max(width / 1280, height / 720)
    world = scene.world()
    full = world.shape[1]
    world = enlarge(world, max(2, round(full * unit))) if unit < 1 else world  # warping alone would alias
    density = world.shape[1] / full
    to_frame = np.array([[unit, 0, (width - 1280 * unit) / 2], [0, unit, (height - 720 * unit) / 2], [0, 0, 1]])
    from_world = np.diag([1 / density, 1 / density, 1.0])
    draw = scene.actor()
    noise = np.random.default_rng(5).normal(0, GRAIN, (height + 64, width + 64)).astype(np.int16)
    grain = np.repeat(noise[..., None], 3, axis=2)

    last, background = None, np.empty(0, np.uint8)
    for index in range(count):
        t = index / max(1, count - 1)
        camera = to_frame @ scene.camera(t)
        if last is None or not np.array_equal(camera, last):
            background = cv2.warpPerspective(
                world, camera @ from_world, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
            )
            last = camera
        frame, mask = _composite(background, draw(t), path=scene.path, camera=camera, t=t, unit=unit)
        dy, dx = (37 * index) % 64, (23 * index) % 64
        noisy = cv2.add(frame, grain[dy : dy + height, dx : dx + width], dtype=cv2.CV_8U)
        yield noisy, background, mask


def _composite(
    background: Image, picture: actors.Canvas, *, path: Path, camera: Matrix, t: float, unit: float
) -> tuple[Image, NDArray[np.bool_]]:
    """Composite the actor over one background with motion blur; return the frame and the object's mask."""
    height, width = background.shape[:2]
    canvas, alpha = picture
    if unit < 1:
        size = max(1, round(canvas.shape[1] * unit)), max(1, round(canvas.shape[0] * unit))
        canvas = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    actor_scale = min(unit, 1)
    h, w = alpha.shape
    warps = []
    for offset in _SHUTTER:
        x, y, scale, degrees = path(t + offset)
        a = math.radians(degrees)
        c, s = scale / actor_scale * math.cos(a), scale / actor_scale * math.sin(a)
        place = np.array([[c, -s, x - c * w / 2 + s * h / 2], [s, c, y - s * w / 2 - c * h / 2], [0, 0, 1]])
        warps.append((camera @ place)[:2])
    ends = np.concatenate([m @ np.array([[0, w, w, 0], [0, 0, h, h], [1, 1, 1, 1]]) for m in warps], axis=1)
    x0, y0 = np.clip(np.floor(ends.min(axis=1)).astype(int) - 1, 0, (width, height))
    x1, y1 = np.clip(np.ceil(ends.max(axis=1)).astype(int) + 2, 0, (width, height))
    mask = np.zeros((height, width), np.bool_)
    if x1 <= x0 or y1 <= y0:
        return background, mask
    size = int(x1 - x0), int(y1 - y0)
    mixed = np.zeros((size[1], size[0], 4), np.float32)
    cover = np.zeros((size[1], size[0]), np.float32)
    for warp in warps:
        warp[:, 2] -= x0, y0
        mixed += cv2.warpAffine(canvas, warp, size, flags=cv2.INTER_LINEAR)
        cover += cv2.warpAffine(alpha, warp, size, flags=cv2.INTER_LINEAR)
    mixed /= len(warps)
    frame = background.copy()
    part = frame[y0:y1, x0:x1].astype(np.float32)
    part = part * (1 - mixed[..., 3:]) + mixed[..., :3] * 255
    frame[y0:y1, x0:x1] = np.clip(part + 0.5, 0, 255).astype(np.uint8)
    mask[y0:y1, x0:x1] = cover / len(warps) >= 0.5
    return frame, mask
