"""The embedded stylizer: a style network on every second frame, carried along the source's motion.

The network looks at single frames, so its marks jump from frame to frame. Two things hold them still: what the network
makes of a frame is mixed with its predecessor, moved along the source's optical flow and trusted as far as the source
itself agrees; and the frames between two passes are made of their neighbours alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydantic import Field

from ffpdata.media.flow import dense_flow, pixel_grid
from ffpdata.models.classical.attributes import look
from ffpdata.models.classical.colour import to_lab
from ffpdata.models.classical.stylizer.style_network import StyleNetwork, work_size
from ffpdata.models.protocols import Edit
from ffpdata.models.settings import BackendSettings, parse_runtime, parse_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Depth, Frames, Image

    Picture = NDArray[Any]

ASTRAY = 3.0
"""Pixels by which motion there and back may miss its start until the moved picture is trusted by 1/e."""
FLOW_SIDE = 640
"""Long side, in pixels, at which motion is estimated."""
LIKE, UNLIKE = 12.0, 25.0
"""Differences of grey levels up to which a pixel counts as seen in a neighbour, and from which it does not."""


class StylizerSettings(BackendSettings):
    """What shapes the stylized clip."""

    side: int = Field(960, ge=64, le=1920)
    """Long side, in pixels, at which the network works; at 640 its marks look like pixels once they are scaled up."""
    every: int = Field(2, ge=1, le=4)
    """Every how manieth frame the network sees; 1 costs twice as much and flickers more."""
    strength: float = Field(1.0, ge=0, le=1)
    """0 is the clip's own style, 1 the reference's."""
    stability: float = Field(0.9, ge=0, lt=1)
    """Share of the moved predecessor where the source agrees with it perfectly."""
    tolerance: float = Field(10.0, gt=0)
    """Difference of grey levels (0..255) between the source and its moved self at which that share falls to 1/e."""
    hard: float = Field(0.05, gt=0, le=1)
    """A frame gets a pass of its own where more than this part of it looks like neither neighbour."""
    patch: float = Field(0.001, gt=0, le=1)
    """From this part on, what looks like neither neighbour is mended by a pass at half the size."""


class StylizerRuntime(BackendSettings):
    """How the same answer is computed."""

    threads: int = Field(1, ge=1)
    """Of the network; no more than OpenCV's, which a Ray worker limits to its CPUs."""


@dataclass
class _Pass:
    """One frame that the network saw, stabilised: its index and its picture at the network's size."""

    t: int
    picture: Picture


@dataclass
class _FlickerTally:
    """Changes of grey level along the motion, from pass to pass, of the result and of the source."""

    result: list[float] = field(default_factory=list)
    source: list[float] = field(default_factory=list)


class MagentaStylizer:
    """A `Stylizer` without weights to fetch; the same input gives the same bytes, whatever the number of threads."""

    name = "magenta_style"
    version = 1
    Settings = StylizerSettings
    Runtime = StylizerRuntime

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        threads = parse_runtime(self.Runtime, spec).threads
        self._network = StyleNetwork(min(threads, cv2.getNumThreads()))  # a worker among others limits OpenCV's

    def close(self) -> None:
        """Free the networks."""
        self._network.close()

    def stylize(self, frames: Frames, depth: Depth, reference: Image, *, prompt: str, seed: int = 0) -> Edit:  # noqa: ARG002
        """Restyle `frames` after `reference`; `depth`, `prompt` and `seed` are for back ends that use them.

        Returns:
            The clip, uint8 (T, H, W, 3), and the facts `style_strength` (mean CIELAB distance to the source),
            `style_flicker` and `source_flicker` (mean change of grey level along reliable motion from one pass to the
            next, of the result and of the source) and `style_passes` (frames that the network saw).
        """
        style = self._network.style(reference)
        if self.settings.strength < 1:
            own = self._network.style(frames[len(frames) // 2])
            style = own + np.float32(self.settings.strength) * (style - own)
        out = np.empty_like(frames)
        motion = _Motion(frames)
        tally, passes = _FlickerTally(), 0
        last: _Pass | None = None
        for t in range(len(frames)):
            between = range(last.t + 1, t) if last else range(0)
            skip = last and t < len(frames) - 1 and len(between) + 1 < self.settings.every
            if skip and motion.novelty(t, t - 1, t + 1)[1] <= self.settings.hard:
                continue
            now = _Pass(t, self._network.apply(frames[t], style, self.settings.side))
            if last:
                self._stabilise(now, last, motion, tally)
            for middle in between:
                assert last is not None  # noqa: S101 - there is no frame between without a pass before
                picture = self._between(motion, last, now, middle)
                self._mend(picture, frames[middle], style, *motion.novelty(middle, last.t, t))
                out[middle] = _finish(picture, out.shape[1:3])
            out[t] = _finish(now.picture, out.shape[1:3])
            last, passes = now, passes + 1
        facts = {"style_strength": _lab_distance(frames, out), "style_passes": float(passes)}
        facts["style_flicker"] = float(np.mean(tally.result)) if tally.result else 0.0
        facts["source_flicker"] = float(np.mean(tally.source)) if tally.source else 0.0
        return Edit(out, facts)

    def _stabilise(self, now: _Pass, last: _Pass, motion: _Motion, tally: _FlickerTally) -> None:
        """Mix a pass, in place, with the one before it, as far as the source shows the same there."""
        flow, error = motion.between(now.t, last.t)
        moved = _warp(last.picture, flow)
        trust = self.settings.stability * np.exp(-((error / self.settings.tolerance) ** 2))
        trust *= np.exp(-((motion.astray(now.t, last.t) / ASTRAY) ** 2))
        share = cv2.resize(trust, moved.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
        now.picture += share * (moved - now.picture)
        calm = error < self.settings.tolerance
        if calm.any():
            change = np.abs(_luma(now.picture) - _luma(moved))
            change = cv2.resize(change, calm.shape[::-1], interpolation=cv2.INTER_AREA)
            tally.result.append(float(change[calm].mean()) * 255)
            tally.source.append(float(error[calm].mean()))

    def _between(self, motion: _Motion, before: _Pass, after: _Pass, t: int) -> Picture:
        """Make frame `t` of the passes before and after it, each where the source says that it knows better."""
        total = np.zeros_like(before.picture)
        weights = np.zeros((*total.shape[:2], 1), np.float32)
        for one in (before, after):
            flow, error = motion.between(t, one.t)
            trust = np.exp(-((error / self.settings.tolerance) ** 2)) / abs(one.t - t) + np.float32(1e-4) / (1 + error)
            weight = cv2.resize(trust, total.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
            total += _warp(one.picture, flow) * weight
            weights += weight
        total /= weights
        return total

    def _mend(self, picture: Picture, image: Image, style: Picture, unlike: Picture, part: float) -> None:
        """Paint in place what neither neighbour could give, if there is more of it than a speck."""
        if part <= self.settings.patch:
            return
        size = picture.shape[1::-1]
        own = cv2.resize(
            self._network.apply(image, style, self.settings.side // 2), size, interpolation=cv2.INTER_CUBIC
        )
        share = cv2.GaussianBlur(np.clip((unlike - LIKE) / (UNLIKE - LIKE), 0, 1), (0, 0), 2)
        picture += cv2.resize(share, size, interpolation=cv2.INTER_LINEAR)[..., None] * (own - picture)


class _Motion:
    """Optical flow between frames of the source at `FLOW_SIDE`, the last few answers kept."""

    def __init__(self, frames: Frames) -> None:
        height, width = work_size(frames.shape[1], frames.shape[2], FLOW_SIDE)
        self._grey = np.stack(
            [
                cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), (width, height), interpolation=cv2.INTER_AREA)
                for f in frames
            ]
        )
        self._known: dict[tuple[int, int], tuple[Picture, Picture]] = {}

    def between(self, t: int, other: int) -> tuple[Picture, Picture]:
        """Return the flow (h, w, 2) from frame `t` to `other`, in pixels, and how unlike frame `t` what it finds is.

        The second array (h, w) is the absolute difference of grey levels, 0..255, slightly smoothed.
        """
        if (t, other) not in self._known:
            flow = dense_flow(self._grey[t], self._grey[other])
            error = cv2.absdiff(self._grey[t], _warp(self._grey[other], flow)).astype(np.float32)
            while len(self._known) > 8:
                self._known.pop(next(iter(self._known)))
            self._known[t, other] = flow, cv2.GaussianBlur(error, (0, 0), 1.5)
        return self._known[t, other]

    def astray(self, t: int, other: int) -> Picture:
        """How far, in pixels (h, w), one ends from the start after following the motion there and back."""
        there, back = self.between(t, other)[0], self.between(other, t)[0]
        missed: Picture = cv2.GaussianBlur(np.linalg.norm(there + _warp(back, there), axis=2), (0, 0), 2)
        return missed

    def novelty(self, t: int, before: int, after: int) -> tuple[Picture, float]:
        """Return how unlike both other frames frame `t` is, (h, w) in grey levels, and which part is too much so."""
        unlike = np.minimum(self.between(t, before)[1], self.between(t, after)[1])
        return unlike, float((unlike > UNLIKE).mean())


def _warp(picture: NDArray[Any], flow: Picture) -> NDArray[Any]:
    """Fetch every pixel of the answer from where `flow` points to; `flow` is scaled to the picture's size."""
    height, width = picture.shape[:2]
    rows, cols = flow.shape[:2]
    if (rows, cols) != (height, width):
        flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
        flow = flow * np.array([width / cols, height / rows], np.float32)
    at = pixel_grid(height, width) + flow
    return cv2.remap(picture, at, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _luma(picture: Picture) -> Picture:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def _finish(picture: Picture, size: tuple[int, int]) -> Image:
    """Scale to `size` (height, width) and to uint8."""
    if picture.shape[:2] != size:
        picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LANCZOS4)
    image: Image = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return image


def _lab_distance(source: Frames, target: Frames) -> float:
    """Mean CIELAB distance over five small frames."""
    return float(np.linalg.norm(to_lab(look(source)) - to_lab(look(target)), axis=-1).mean())
