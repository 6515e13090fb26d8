"""Encoders whose vectors are colours, so that what a score must be can be told beforehand."""

from __future__ import annotations

import numpy as np

from ffpdata.models.protocols import FrameFeatures
from tests.stages.alone import FRAMES, HEIGHT, WIDTH, Backend

WORDS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}
RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)


class ByColour(Backend):
    """A frame is its mean colour, a text the colours that it names."""

    logit_scale = 100.0

    def vectors(self, frames: np.ndarray) -> np.ndarray:
        means = frames.reshape(len(frames), -1, 3).mean(axis=1) + 1e-3
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def encode_text(self, text: str) -> np.ndarray:
        self.asked.append({"text": text})
        found = np.sum([WORDS[word] for word in text.split() if word in WORDS], axis=0)
        return (found / np.linalg.norm(found)).astype(np.float32)


class ImageText(ByColour):
    name = "image_text"

    def encode_frames(self, frames: np.ndarray) -> FrameFeatures:
        return FrameFeatures(7 * self.vectors(frames), self.vectors(frames))


class Looks(ByColour):
    name = "looks"

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        return 3 * self.vectors(frames)


class Likes(ByColour):
    name = "likes"

    def score(self, frames: np.ndarray, text: str) -> np.ndarray:
        return 20 * self.vectors(frames) @ self.encode_text(text)


class WholeClip(ByColour):
    name = "whole_clip"

    def encode_clip(self, frames: np.ndarray) -> np.ndarray:
        mean = self.vectors(frames).mean(axis=0)
        return mean / np.linalg.norm(mean)


class Quality(Backend):
    """The lighter, the better."""

    name = "quality"

    def score(self, frames: np.ndarray) -> np.ndarray:
        return 1 + 4 * frames.reshape(len(frames), -1).mean(axis=1) / 255


def turning(frames: int = 2 * FRAMES) -> np.ndarray:
    """A clip whose colour goes from red over green to blue, uint8 (T, H, W, 3)."""
    share = np.linspace(0, 1, frames)
    colours = np.stack([np.interp(share, (0, 0.5, 1), levels) for levels in ((250, 0, 0), (0, 250, 0), (0, 0, 250))], 1)
    return np.broadcast_to(colours[:, None, None].round().astype(np.uint8), (frames, HEIGHT, WIDTH, 3)).copy()


def shuffled(clip: np.ndarray) -> np.ndarray:
    """The frames in an order in which no neighbours stay neighbours."""
    return clip[np.r_[0 : len(clip) : 3, 1 : len(clip) : 3, 2 : len(clip) : 3][::-1]]
