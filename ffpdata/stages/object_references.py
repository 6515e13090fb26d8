"""Fan a clip out over the pictures of what is to be put into it."""

from __future__ import annotations

from ffpdata.core.stage import Artifact, Child, Row, Stage
from ffpdata.media.images import Fit
from ffpdata.stages.references import ReferencesSettings, conform_references


class ObjectReferencesSettings(ReferencesSettings):
    """Size of the pictures."""

    fit: Fit = "whole"
    """As in `references`: nothing of the object is cut off."""


class ObjectReferences(Stage):
    """Write one item per picture, `<clip>/reference/<id>`, with the picture within the clip's size."""

    name, version = "object_references", 1
    reads = ("reference_ids", "sha", "source_video")
    uses = ("root", "reference_paths", "width", "height")
    writes = {"reference_image": Artifact("png"), "reference_id": str}
    fan_out = True
    Settings = ObjectReferencesSettings

    def expand(self, row: Row) -> list[Child]:
        """Return one child per readable picture; a clip without any is rejected."""
        return [
            Child(suffix, {"reference_image": image, "reference_id": image_id})
            for suffix, image_id, image in conform_references(row, "reference", self.settings)
        ]
