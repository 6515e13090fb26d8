"""ViCLIP (Wang et al. 2023): clips and texts in one space.

In a profile:

    video_text_encoder:
      backend: ffpdata.models.perception.viclip:ViClip
      model: OpenGVLab/ViCLIP-L-14-hf
      licence: unknown, trained on CC-BY-NC-SA-4.0
      settings: {tokenizer: openai/clip-vit-large-patch14}
      runtime: {device: cuda}

`model` may also be the authors' pickle, `./ViClip-InternVid-10M-FLT.pth` (of OpenGVLab/VBench_Used_Models), which
torch's restricted loader opens. No code of a repository is run.
"""

from __future__ import annotations

import html
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.core.errors import FatalError
from ffpdata.models.gpu_memory import clip_size, inference, release
from ffpdata.models.perception import viclip_network as net
from ffpdata.models.perception.settings import REMEDY, TEXT_FILES, encoder_needs
from ffpdata.models.requirements import Checkpoint
from ffpdata.models.settings import BackendSettings, DeviceRuntime, parse_runtime, parse_settings
from ffpdata.models.weights import checkpoint_folder, from_pretrained, read_state, torch_device

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames, Image
    from ffpdata.models.requirements import Requirements

    Floats = NDArray[np.float32]

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
"""CLIP's, as EditVerse's and VBench's evaluations take them; the authors' own example takes ImageNet's."""


class ViClipSettings(BackendSettings):
    """Settings of `ViClip`."""

    tokenizer: str = "openai/clip-vit-large-patch14"
    """Checkpoint whose vocabulary it takes: that of every CLIP of OpenAI."""
    tokenizer_revision: str = ""


class ViClip:
    """A `VideoTextEncoder`: 8 frames spread over the clip, and 32 tokens of a text, in float32."""

    name = "viclip"
    version: int = 1
    Settings = ViClipSettings
    Runtime = DeviceRuntime

    def __init__(self, spec: ModelSpec) -> None:
        from transformers import AutoTokenizer

        settings = parse_settings(self.Settings, spec)
        parse_runtime(self.Runtime, spec)
        self.device = torch_device(spec)
        state = official_state(spec.model, spec.revision)
        self.shape = net.shape_of(state)
        self.network = net.build(state).to(self.device)
        folder = checkpoint_folder(settings.tokenizer, settings.tokenizer_revision, patterns=TEXT_FILES)
        self.tokenizer = from_pretrained(AutoTokenizer, folder)
        if len(self.tokenizer) != self.shape.vocabulary:
            raise FatalError(
                f"{settings.tokenizer} knows {len(self.tokenizer)} tokens, and {spec.model} {self.shape.vocabulary}: "
                "set the role's tokenizer to openai/clip-vit-large-patch14"
            )

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """Return its packages, its weights and the checkpoint of its tokenizer."""
        settings = parse_settings(cls.Settings, spec)
        tokenizer = Checkpoint("tokenizer", settings.tokenizer, settings.tokenizer_revision, TEXT_FILES, None)
        return encoder_needs(spec, tokenizer)

    def close(self) -> None:
        """Free the network."""
        self.__dict__.pop("network", None)
        release(self.device)

    def encode_clip(self, frames: Frames) -> Floats:
        """Return the vector of a clip, float32 (D,), of length 1.

        Args:
            frames: uint8 (T, H, W, 3) RGB. Frames floor(i T / 8) are seen: of fewer than 8 some are seen twice.
        """
        import torch

        chosen = [i * len(frames) // self.shape.frames for i in range(self.shape.frames)]
        seen = np.stack([frame_pixels(frames[number], self.shape.side) for number in chosen])
        with inference(self.device, f"ViCLIP on {clip_size(frames)}", REMEDY):
            return _unit(net.clip_vector(self.network, torch.from_numpy(seen).to(self.device)))

    def encode_text(self, text: str) -> Floats:
        """Return the vector of a text, float32 (D,), of length 1."""
        import torch

        with inference(self.device, "ViCLIP on a text", REMEDY):
            return _unit(net.text_vector(self.network, torch.tensor(self.tokens(text), device=self.device)))

    def tokens(self, text: str) -> list[int]:
        """Return the numbers of a text's tokens: 32, cut so that the last is the mark of the end, or filled up by 0."""
        plain = html.unescape(html.unescape(text)).strip()
        found: list[int] = self.tokenizer(plain, truncation=True, max_length=self.shape.tokens)["input_ids"]
        return found + [0] * (self.shape.tokens - len(found))


def official_state(model: str, revision: str = "") -> dict[str, torch.Tensor]:
    """Read ViCLIP's weights: a `.pth` of the authors, or the safetensors of a folder or repository.

    Raises:
        FatalError: there are none, or the pickle holds something else than tensors under `model`.
    """
    import torch

    file = Path(model).expanduser()
    if not file.is_file():
        return read_state(checkpoint_folder(model, revision))
    try:
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as err:
        raise FatalError(f"{file}: torch's restricted loader refuses it ({str(err).splitlines()[0]})") from err
    state = found.get("model") if isinstance(found, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise FatalError(f"{file}: holds no tensors under 'model', where the authors' file has them")
    return dict(state)


def frame_pixels(frame: Image, side: int) -> Floats:
    """Scale, crop and normalise a frame as torchvision's transforms do on PIL: float32 (3, side, side).

    The short side becomes `side`, bicubic, the long one is cut to whole pixels; then the middle, halves round to even.
    """
    import PIL.Image

    height, width = frame.shape[:2]
    short = min(height, width)
    size = int(side * width / short), int(side * height / short)
    scaled = np.asarray(PIL.Image.fromarray(frame).resize(size, PIL.Image.Resampling.BICUBIC))
    top, left = round((size[1] - side) / 2), round((size[0] - side) / 2)
    middle = scaled[top : top + side, left : left + side].astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((middle - MEAN) / STD).transpose(2, 0, 1))


def _unit(vector: torch.Tensor) -> Floats:
    scaled: Floats = (vector / vector.norm()).cpu().numpy()
    return scaled
