"""The detector of objects with names as a back end: by it removed and edited objects are looked for again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ffpdata.models.packaged.litert_session import interpreter
from ffpdata.models.pretrained.detector import MIN_SCORE, ObjectDetector
from ffpdata.models.pretrained.packaged_backend import PackagedBackend
from ffpdata.models.settings import BackendSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ffpdata.models.protocols import Detection, Image


class NamedObjectsSettings(BackendSettings):
    """Settings of `NamedObjects`."""

    min_score: float = Field(MIN_SCORE, ge=0, le=1)


class NamedObjects(PackagedBackend):
    """A `Detector` of 23 kinds of objects."""

    name, version = "objectron_ssd", 1
    network = "objectron_ssd"
    Settings = NamedObjectsSettings

    def _open(self, threads: int) -> None:
        self._network: ObjectDetector | None = ObjectDetector(interpreter(self.network, threads))

    def detect(self, picture: Image) -> Sequence[Detection]:
        """Return the objects in a picture, best first; the whole of it is looked at once."""
        assert self._network is not None, "closed"  # noqa: S101
        return self._network.detect(picture, least=self.settings.min_score, crops=())

    def close(self) -> None:
        """Free the network."""
        self._network = None
