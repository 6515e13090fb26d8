"""Faces: the network CenterFace, and the gate that keeps clips out in which people could be recognised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.media.metrics import evenly_spaced
from ffpdata.models.pretrained.detector import area, suppress
from ffpdata.models.pretrained.packaged_backend import PackagedBackend
from ffpdata.models.protocols import Detection
from ffpdata.models.settings import BackendSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.protocols import Frames, Image

_SIDE = 640
"""Long side of the network's picture: 0.09 CPU seconds for 16:9; smaller faces than 8 pixels of it are not found."""
_STRIDE = 32
_CELL = 4
"""Pixels of the picture to a cell of the network's maps."""
_LEAST = 0.35
"""Score from which a cell may be a face's centre; the gate asks for more."""


class FaceGateSettings(BackendSettings):
    """What counts as a face that can be recognised."""

    frames: int = Field(5, ge=1)
    """Frames that are looked at, spread over the clip."""
    min_score: float = Field(0.5, ge=_LEAST, le=1)
    min_height: float = Field(0.04, ge=0, le=1)
    """Lowest face that counts, as a part of the frame's short side: 29 pixels of 720."""
    max_share: float = Field(0.0, ge=0, le=1)
    """Largest part of the looked-at frames that may show one."""


class FaceGate(PackagedBackend):
    """A `ContentGate` for faces."""

    name, version = "faces", 1
    network = "centerface"
    Settings = FaceGateSettings

    def inspect(self, frames: Frames) -> dict[str, float]:
        """Return `face_share`, the part of the frames with a face that counts, and `face_height`, of the short side.

        Raises:
            Reject: `faces_visible`.
        """
        settings, short = self.settings, min(frames.shape[1:3])
        seen, highest = [], 0.0
        for t in evenly_spaced(len(frames), settings.frames):
            heights = [
                (one.box[3] - one.box[1]) / short
                for one in find_faces(self._session, frames[t])
                if one.score >= settings.min_score
            ]
            highest = max([highest, *heights])
            seen.append(any(height >= settings.min_height for height in heights))
        facts = {"face_share": round(float(np.mean(seen)), 4), "face_height": round(highest, 4)}
        if facts["face_share"] > settings.max_share:
            raise Reject(
                "faces_visible",
                f"faces in {sum(seen)} of {len(seen)} frames, the highest {highest:.3f} of the short side: "
                f"at most {settings.max_share:g} of the frames may show one from {settings.min_height:g} on",
                facts,
            )
        return facts


def find_faces(session: Any, picture: Image) -> list[Detection]:
    """Return the faces in a picture, uint8 (H, W, 3) RGB, best first.

    Args:
        session: onnxruntime's, of the network `centerface`.
        picture: of any size.
    """
    height, width = picture.shape[:2]
    scale = _SIDE / max(height, width)
    size = [max(_STRIDE, round(side * scale / _STRIDE) * _STRIDE) for side in (width, height)]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    batch = np.ascontiguousarray(small.astype(np.float32).transpose(2, 0, 1)[None])
    heat, logs, offsets = (maps[0] for maps in session.run(None, {session.get_inputs()[0].name: batch})[:3])
    return _decode(heat[0], logs, offsets, np.array([width / size[0], height / size[1]]))


def _decode(
    heat: NDArray[np.float32], logs: NDArray[np.float32], offsets: NDArray[np.float32], scale: NDArray[np.float64]
) -> list[Detection]:
    """Turn maps of centres (h, w), sizes (2: height, width) and offsets (2: y, x) into boxes in the picture."""
    found = []
    for y, x in zip(*np.nonzero(heat >= _LEAST), strict=True):
        centre = (np.array([x, y]) + offsets[::-1, y, x] + 0.5) * _CELL * scale
        half = np.exp(logs[::-1, y, x]) * _CELL / 2 * scale
        x0, y0, x1, y1 = np.concatenate([centre - half, centre + half]).round(1).tolist()
        found.append(Detection("face", round(float(heat[y, x]), 4), (x0, y0, x1, y1)))
    return [one for one in suppress(found) if area(one.box) > 0]
