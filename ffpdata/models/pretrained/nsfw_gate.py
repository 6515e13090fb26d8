"""The gate that keeps out what is not safe for work: open_nsfw, one probability a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.media.metrics import evenly_spaced
from ffpdata.models.pretrained.packaged_backend import PackagedBackend
from ffpdata.models.settings import BackendSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ffpdata.models.protocols import Frames, Image

_WHOLE, _SIDE = 256, 224
"""The picture is brought to the first size, its centre of the second is looked at."""
_MEAN = np.array([104, 117, 123], np.float32)


class NsfwGateSettings(BackendSettings):
    """The limit."""

    frames: int = Field(5, ge=1)
    """Frames that are looked at, spread over the clip."""
    max_probability: float = Field(0.8, ge=0, le=1)
    """Largest probability of any frame; decent pictures, dark portraits say, reach 0.5."""


class NsfwGate(PackagedBackend):
    """A `ContentGate` for what is not safe for work. It errs both ways: a first sieve, no promise."""

    name, version = "nsfw", 1
    network = "opennsfw"
    Settings = NsfwGateSettings

    def inspect(self, frames: Frames) -> dict[str, float]:
        """Return `nsfw`, the largest probability of the frames looked at.

        Raises:
            Reject: `not_safe_for_work`.
        """
        chosen = [frames[t] for t in evenly_spaced(len(frames), self.settings.frames)]
        facts = {"nsfw": round(float(unsafe(self._session, chosen).max()), 4)}
        if facts["nsfw"] > self.settings.max_probability:
            limit = self.settings.max_probability
            raise Reject("not_safe_for_work", f"probability {facts['nsfw']:.2f}, at most {limit:g}", facts)
        return facts


def unsafe(session: Any, pictures: Sequence[Image]) -> NDArray[np.float32]:
    """Return how probable it is that each picture, uint8 (H, W, 3) RGB, is not safe for work: float32 (N,) of 0..1.

    Args:
        session: onnxruntime's, of the network `opennsfw`.
        pictures: of any sizes.
    """
    at = (_WHOLE - _SIDE) // 2
    batch = np.stack(
        [
            cv2.resize(picture, (_WHOLE, _WHOLE), interpolation=cv2.INTER_AREA)[at : at + _SIDE, at : at + _SIDE, ::-1]
            - _MEAN
            for picture in pictures
        ]
    )
    [found] = session.run(None, {session.get_inputs()[0].name: batch.astype(np.float32)})
    probabilities: NDArray[np.float32] = found[:, 1]
    return probabilities
