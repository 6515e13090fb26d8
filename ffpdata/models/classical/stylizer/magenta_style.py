"""The embedded stylizer: a style network on every second frame, warped along the source's motion.

The network processes single frames, so that its texture changes from frame to frame. Two steps stabilise it: each
result is blended with its predecessor, warped by the source's optical flow and weighted by how well the source itself
agrees; and the frames between two network passes are interpolated from their neighbours.

How strong the style may be is tried on a few small frames: the strongest that can still be read is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.media.flow import dense_flow, pixel_grid
from ffpdata.models.classical.attributes import sample_frames
from ffpdata.models.classical.colour import to_lab
from ffpdata.models.classical.stylizer import legibility
from ffpdata.models.classical.stylizer.legibility import Legibility, with_tone
from ffpdata.models.classical.stylizer.style_network import StyleNetwork, work_size
from ffpdata.models.protocols import Edit
from ffpdata.models.settings import BackendSettings, parse_runtime, parse_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Depth, Frames, Image

    Picture = NDArray[Any]

CYCLE_ERROR_PX = 3.0
"""Forward-backward error of the flow, in pixels, at which the weight of the warped picture falls to 1/e."""
FLOW_SIDE = 640
"""Long side, in pixels, at which motion is estimated."""
PROBES = 3
"""Evenly spaced frames on which strengths are tried, at half the size."""
STRENGTHS = 3
"""How many strengths are tried, from the strongest to the weakest."""
TONES = (0.0, 0.3, 0.5, 0.7)
"""Shares of the source's light and dark that are tried with each strength, in this order."""
CHECKED = 8
"""Distance of the frames in which the result is measured."""
LENIENT = 0.9
"""Limits of the result, of those of the trial: its frames are steadied, and are at full size."""
SIMILAR, DIFFERENT = 12.0, 25.0
"""Grey-level differences up to which a pixel counts as visible in a neighbouring frame, and from which it does not."""


class StylizerSettings(BackendSettings):
    """Settings of `MagentaStylizer`."""

    side: int = Field(960, ge=64, le=1920)
    """Long side of the network's input, in pixels; at 640 its texture looks pixelated after enlargement."""
    every: int = Field(2, ge=1, le=4)
    """Distance of the frames that the network processes; 1 costs twice as much and flickers more."""
    strength: float = Field(1.0, ge=0, le=1)
    """Strongest style that is tried: 0 is the clip's own, 1 the reference's."""
    weakest: float = Field(0.55, ge=0, le=1)
    """Weakest style that is tried where a stronger one cannot be read, of `strength`."""
    min_edges: float = Field(0.4, ge=-1, le=1)
    """Smallest correlation of the edges with the source's, or `not_legible`."""
    min_tones: float = Field(0.7, ge=-1, le=1)
    """Smallest correlation of coarse light and dark with the source's, or `not_legible`."""
    min_range: float = Field(0.45, ge=0)
    """Smallest range of light and dark, of the source's, or `not_legible`."""
    stability: float = Field(0.9, ge=0, lt=1)
    """Weight of the warped predecessor where the source agrees perfectly."""
    tolerance: float = Field(10.0, gt=0)
    """Difference of grey levels between the source and its warped predecessor at which that weight falls to 1/e."""
    hard: float = Field(0.05, gt=0, le=1)
    """A frame gets its own network pass where more than this part of it is visible in neither neighbour."""
    patch: float = Field(0.001, gt=0, le=1)
    """From this part on, pixels visible in neither neighbour are repainted by a pass at half the size."""


class StylizerRuntime(BackendSettings):
    """Threads of the network."""

    threads: int = Field(1, ge=1)
    """At most OpenCV's number of threads, which a Ray worker limits to its CPUs."""


@dataclass
class _Pass:
    """One stabilised result of the network: frame index, and picture, float32 (h, w, 3) in 0..1."""

    t: int
    picture: Picture


@dataclass
class _FlickerTally:
    """Mean changes of grey level along the motion, per pass, of the result and of the source."""

    result: list[float] = field(default_factory=list)
    source: list[float] = field(default_factory=list)


class MagentaStylizer:
    """A `Stylizer` without weights to fetch; the same input gives the same bytes, whatever the number of threads."""

    name = "magenta_style"
    version = 2
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
        """Restyle `frames` after `reference`; `depth`, `prompt` and `seed` are not used.

        Returns:
            The clip, uint8 (T, H, W, 3), and the facts `style_strength` (mean CIELAB distance to the source),
            `style_flicker` and `source_flicker` (mean change of grey level along reliable motion from one pass to the
            next, of the result and of the source), `style_passes` (number of network passes), `style_share` and
            `tone_share` (how much of the reference's style was taken, and of the source's light and dark kept), and
            `legible_edges`, `legible_tones` and `legible_range` (see `Legibility`, over every few frames).

        Raises:
            Reject: `not_legible` where no strength gives a picture that can be read.
        """
        style, share, tone = self._legible_style(frames, reference)
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
                picture = self._interpolate(motion, last, now, middle)
                self._repaint(picture, frames[middle], style, *motion.novelty(middle, last.t, t))
                out[middle] = _finish(with_tone(picture, frames[middle], tone), out.shape[1:3])
            out[t] = _finish(with_tone(now.picture, frames[t], tone), out.shape[1:3])
            last, passes = now, passes + 1
        checked = range(0, len(frames), CHECKED)
        found = legibility.measure([frames[t] for t in checked], [out[t] for t in checked])
        self._check(found)
        facts = {"style_strength": _lab_distance(frames, out), "style_passes": float(passes)}
        facts["style_flicker"] = float(np.mean(tally.result)) if tally.result else 0.0
        facts["source_flicker"] = float(np.mean(tally.source)) if tally.source else 0.0
        facts |= {"style_share": share, "tone_share": tone}
        facts |= {"legible_edges": found.edges, "legible_tones": found.tones, "legible_range": found.range}
        return Edit(out, facts)

    def _legible_style(self, frames: Frames, reference: Image) -> tuple[Picture, float, float]:
        """Return the strongest style that can be read, its share, and the share of the source's light and dark."""
        picks = np.unique(np.linspace(0, len(frames) - 1, PROBES).round().astype(int))
        probes = [frames[t] for t in picks]
        full, own = self._network.style(reference), self._network.style(frames[len(frames) // 2])
        best: Legibility | None = None
        weakest = self.settings.weakest * self.settings.strength
        for share in np.linspace(self.settings.strength, weakest, STRENGTHS).tolist():
            style = full if share == 1 else own + np.float32(share) * (full - own)
            drawn = [self._network.apply(probe, style, self.settings.side // 2) for probe in probes]
            for tone in TONES:
                results = [_finish(with_tone(p, f, tone), p.shape[:2]) for p, f in zip(drawn, probes, strict=True)]
                found = legibility.measure(probes, results)
                if not self._lacks(found):
                    return style, share, tone
                best = max(best or found, found, key=lambda one: min(one.edges, one.tones))
        raise self._rejection(self._lacks(best) if best else "")

    def _lacks(self, found: Legibility, leave: float = 1.0) -> str:
        limits = self.settings
        return found.lacks(limits.min_edges, limits.min_tones, limits.min_range, leave)

    def _check(self, found: Legibility) -> None:
        if lacks := self._lacks(found, LENIENT):
            raise self._rejection(lacks)

    @staticmethod
    def _rejection(lacks: str) -> Reject:
        return Reject("not_legible", f"the picture cannot be read in this style: {lacks}. Another reference may suit")

    def _stabilise(self, now: _Pass, last: _Pass, motion: _Motion, tally: _FlickerTally) -> None:
        """Blend a pass, in place, with the one before it, weighted by how well the source agrees."""
        flow, error = motion.between(now.t, last.t)
        moved = _warp(last.picture, flow)
        weight_map = self.settings.stability * np.exp(-((error / self.settings.tolerance) ** 2))
        weight_map *= np.exp(-((motion.cycle_error(now.t, last.t) / CYCLE_ERROR_PX) ** 2))
        share = cv2.resize(weight_map, moved.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
        now.picture += share * (moved - now.picture)
        steady = error < self.settings.tolerance
        if steady.any():
            change = np.abs(_luma(now.picture) - _luma(moved))
            change = cv2.resize(change, steady.shape[::-1], interpolation=cv2.INTER_AREA)
            tally.result.append(float(change[steady].mean()) * 255)
            tally.source.append(float(error[steady].mean()))

    def _interpolate(self, motion: _Motion, before: _Pass, after: _Pass, t: int) -> Picture:
        """Interpolate frame `t` from the passes before and after it, weighted by how well the source agrees."""
        total = np.zeros_like(before.picture)
        weights = np.zeros((*total.shape[:2], 1), np.float32)
        for one in (before, after):
            flow, error = motion.between(t, one.t)
            weight_map = np.exp(-((error / self.settings.tolerance) ** 2)) / abs(one.t - t) + np.float32(1e-4) / (
                1 + error
            )
            weight = cv2.resize(weight_map, total.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
            total += _warp(one.picture, flow) * weight
            weights += weight
        total /= weights
        return total

    def _repaint(self, picture: Picture, image: Image, style: Picture, novelty_map: Picture, part: float) -> None:
        """Repaint in place the pixels visible in neither neighbour, if they are more than the setting `patch`."""
        if part <= self.settings.patch:
            return
        size = picture.shape[1::-1]
        own = cv2.resize(
            self._network.apply(image, style, self.settings.side // 2), size, interpolation=cv2.INTER_CUBIC
        )
        share = cv2.GaussianBlur(np.clip((novelty_map - SIMILAR) / (DIFFERENT - SIMILAR), 0, 1), (0, 0), 2)
        picture += cv2.resize(share, size, interpolation=cv2.INTER_LINEAR)[..., None] * (own - picture)


class _Motion:
    """Optical flow between frames of the source at `FLOW_SIDE`, with a cache of the last few results."""

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
        """Return the flow (h, w, 2) from frame `t` to `other`, in pixels, and its error.

        The error (h, w) is the absolute difference of grey levels, 0..255, between `t` and the warped `other`, slightly
        smoothed.
        """
        if (t, other) not in self._known:
            flow = dense_flow(self._grey[t], self._grey[other])
            error = cv2.absdiff(self._grey[t], _warp(self._grey[other], flow)).astype(np.float32)
            while len(self._known) > 8:
                self._known.pop(next(iter(self._known)))
            self._known[t, other] = flow, cv2.GaussianBlur(error, (0, 0), 1.5)
        return self._known[t, other]

    def cycle_error(self, t: int, other: int) -> Picture:
        """Return the forward-backward error of the flow, (h, w), pixels."""
        there, back = self.between(t, other)[0], self.between(other, t)[0]
        error: Picture = cv2.GaussianBlur(np.linalg.norm(there + _warp(back, there), axis=2), (0, 0), 2)
        return error

    def novelty(self, t: int, before: int, after: int) -> tuple[Picture, float]:
        """Return the smaller difference of frame `t` from the two others, (h, w), and its part above `DIFFERENT`."""
        novelty_map = np.minimum(self.between(t, before)[1], self.between(t, after)[1])
        return novelty_map, float((novelty_map > DIFFERENT).mean())


def _warp(picture: NDArray[Any], flow: Picture) -> NDArray[Any]:
    """Warp a picture backward by `flow`, which is scaled to the picture's size."""
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
    return float(np.linalg.norm(to_lab(sample_frames(source)) - to_lab(sample_frames(target)), axis=-1).mean())
