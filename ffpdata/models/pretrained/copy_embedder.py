"""Vectors by which copies of a picture are found: SSCD, a descriptor trained for copy detection (distilled)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.models.pretrained.packaged_backend import PackagedBackend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ffpdata.models.protocols import Image

_SIDE = 288
"""Short side of the picture that the network sees, as SSCD has it."""


class CopyEmbedder(PackagedBackend):
    """An `Embedder`. Cosines of copies are .7 and more, also mirrored or cropped to 80 %; of others .15 and less."""

    name, version = "sscd", 1
    network = "sscd_distilled"

    def embed(self, pictures: Sequence[Image]) -> NDArray[np.float32]:
        """Return a vector of length 1 for each picture, float32 (N, 512)."""
        name = self._session.get_inputs()[0].name
        rows = [self._session.run(None, {name: _small(picture)[None]})[0][0] for picture in pictures]
        vectors = np.stack(rows).astype(np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _small(picture: Image) -> Image:
    scale = _SIDE / min(picture.shape[:2])
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
