"""The `DepthEstimator` of the paper (section 3.2).

In a profile:

    depth_estimator:
      backend: ffpdata.models.video_depth:VideoDepthAnything
      model: models/video_depth_small
      licence: Apache-2.0
      runtime: {device: cuda}

The authors publish pickles. Convert one, then set its folder as `model`:

    hf download depth-anything/Video-Depth-Anything-Small --local-dir .
    python -m ffpdata.models.convert_to_safetensors video_depth_anything_vits.pth models/video_depth_small

Small is Apache-2.0; the weights of Base and Large are CC-BY-NC-4.0, which excludes commercial datasets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from pydantic import Field

from ffpdata.core.errors import FfpdataError
from ffpdata.models.gpu_memory import clip_size, inference, release
from ffpdata.models.requirements import Checkpoint, Requirements, wants_gpu
from ffpdata.models.settings import BackendSettings, DeviceRuntime, parse_runtime, parse_settings
from ffpdata.models.video_depth import network as net
from ffpdata.models.video_depth.windows import join, window_frames
from ffpdata.models.weights import Dtype, checkpoint_folder, read_state, torch_device, torch_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Depth, Frames

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
"""Mean and standard deviation of ImageNet, with which DINOv2 was trained."""

MAX_ASPECT = 1.78
"""Long by short side above which upstream reduces the input size, to limit memory."""

REMEDY = "Set the role's setting side lower, or use a smaller checkpoint."


class VideoDepthSettings(BackendSettings):
    """Settings of `VideoDepthAnything`."""

    side: int = Field(518, ge=14, multiple_of=14)
    """Short side of the network's input, in pixels (upstream: `input_size`)."""
    dtype: Dtype = "float16"
    """Arithmetic of matrices and convolutions (upstream: `float16`); the last layers and all weights are float32."""
    range: Literal["clip", "frame"] = "clip"
    """What 0 and 1 are the farthest and nearest of. `clip`: of the whole clip, so that what keeps its distance keeps
    its level (upstream's `save_video`). `frame`: of each frame, as in VACE's own annotator (ali-vilab/VACE,
    vace/annotators/depth.py): each frame uses all levels, and they jump where something near comes or goes."""


class VideoDepthAnything:
    """Relative depth of a whole clip."""

    name = "video_depth_anything"
    version: int = 1
    kind = "relative"
    Settings = VideoDepthSettings
    Runtime = DeviceRuntime

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        parse_runtime(self.Runtime, spec)
        self.device = torch_device(spec)
        self.network = net.build(read_state(checkpoint_folder(spec.model, spec.revision))).to(self.device)

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """Return its packages and checkpoint."""
        weights = Checkpoint("weights", spec.model, spec.revision)
        return Requirements(packages=("torch", "transformers"), checkpoints=(weights,), gpu=wants_gpu(spec))

    def close(self) -> None:
        """Free the network."""
        self.__dict__.pop("network", None)
        release(self.device)

    def depth(self, frames: Frames) -> Depth:
        """Estimate relative depth.

        Args:
            frames: uint8 (T, H, W, 3) RGB.

        Returns:
            float32 (T, H, W) in 0..1, near = 1; 0 and 1 are the farthest and nearest of the clip, or of each frame
            (setting `range`), all 0 where nothing differs.

        Raises:
            GpuMemoryError: the clip does not fit the GPU.
            RetryableError: other processes fill the GPU.
            FfpdataError: depth is not finite.
        """
        with inference(self.device, f"depth of {clip_size(frames)}", REMEDY):
            found = join(self._windows(frames), len(frames))
        if not np.isfinite(found).all():
            raise FfpdataError(f"depth overflowed in {self.settings.dtype}: set the role's dtype to float32")
        for maps in [found] if self.settings.range == "clip" else found:
            _stretch(maps)
        return np.clip(found, 0, 1, out=found)

    def _windows(self, frames: Frames) -> Iterator[NDArray[np.float32]]:
        """Yield the maps of one window after another, float32 (32, H, W) each, near = large."""
        import torch

        dtype = torch_dtype(self.settings.dtype)
        mixed = torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)
        for chosen in window_frames(len(frames)):
            pixels = torch.from_numpy(self._preprocess(frames, chosen)).to(self.device)
            with mixed:
                found = net.nearness(self.network, pixels)
            yield net.upsample(found.float(), frames.shape[1:3]).cpu().numpy()

    def _preprocess(self, frames: Frames, chosen: Sequence[int]) -> NDArray[np.float32]:
        """Scale and normalise frames: float32 (n, 3, h, w)."""
        width, height = input_size(frames.shape[2], frames.shape[1], self.settings.side)
        out = np.empty((len(chosen), height, width, 3), np.float32)
        for place, number in enumerate(chosen):
            scaled = frames[number].astype(np.float32) / np.float32(255)
            out[place] = cv2.resize(scaled, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.ascontiguousarray(((out - MEAN) / STD).transpose(0, 3, 1, 2))


def _stretch(maps: NDArray[np.float32]) -> None:
    """Bring nearness, float of any shape, to 0..1 in place; to 0 where nothing differs."""
    far, near = float(maps.min()), float(maps.max())
    maps -= np.float32(far)
    if near > far:
        maps /= np.float32(near - far)


def input_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Return the network's input size (width, height): multiples of 14, the short side about `side`.

    As upstream's `infer_video_depth` and `Resize`: smaller for wide clips; sides are rounded, not below `side`.
    """
    ratio = max(width, height) / min(width, height)
    if ratio > MAX_ASPECT:
        side = max(1, round(int(side * 1.777 / ratio) / net.PATCH)) * net.PATCH
    scale = max(side / width, side / height)

    def rounded(pixels: float) -> int:
        nearest = int(np.round(pixels / net.PATCH)) * net.PATCH
        return nearest if nearest >= side else int(np.ceil(pixels / net.PATCH)) * net.PATCH

    return rounded(width * scale), rounded(height * scale)
