"""Fan a clip out over its style references (paper, sections 3.2 and 7.3: several references per source)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from ffpdata.core.stage import Artifact, Child, Reject, Row, Stage, StageSettings
from ffpdata.media.geometry import Geometry
from ffpdata.media.images import Fit, conform_image


class ReferencesSettings(StageSettings):
    """Size of the style images."""

    clip: Geometry = Geometry()
    fit: Fit = "crop"
    """`crop`: fill the size and cut off what is beyond it. `whole`: all of the image at its own shape, as large as fits
    into the clip; VACE's back ends put it on a white canvas themselves, and a vision-language model sees no border.
    `pad`: on such a canvas already here, for a stylizer that wants the clip's size."""

    @model_serializer(mode="wrap")
    def _without_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `fit` out where it is `crop`: what was made before there was a choice keeps its keys."""
        found: dict[str, Any] = dump(self)
        return {name: value for name, value in found.items() if (name, value) != ("fit", "crop")}


class References(Stage):
    """Write one item per style image, `<clip>/style/<id>`, with the image at the clip's size."""

    name, version = "references", 1
    reads = ("style_ids", "sha", "source_video")
    uses = ("root", "style_paths", "width", "height")
    optional = ("width", "height")
    writes = {"reference_image": Artifact("png"), "style_id": str, "task": str, "variant": str, "seed": int}
    fan_out = True
    Settings = ReferencesSettings

    def expand(self, row: Row) -> list[Child]:
        """Return one child per readable style image; a clip without any is rejected."""
        children = []
        for suffix, style_id, image in conform_references(row, "style", self.settings):
            columns = {"reference_image": image, "style_id": style_id, "task": "stylization", "variant": style_id[:8]}
            children.append(Child(suffix, {**columns, "seed": int(style_id[:7], 16)}))
        return children


def conform_references(row: Row, kind: str, settings: ReferencesSettings) -> list[tuple[str, str, Path]]:
    """Write the `reference_image` of every image of a row that can be read, each once.

    Args:
        row: has `<kind>_ids` and `<kind>_paths`, in one order.
        kind: `style`, or `reference` for pictures of objects: also the folder and the table's column.
        settings: how an image comes into the clip's size.

    Returns:
        Per image: suffix of its item, id, and file.

    Raises:
        Reject: `no_<kind>_reference` or `no_reference` where there is none; why each could not be read.
    """
    found: list[tuple[str, str, Path]] = []
    problems: list[str] = []
    clip = settings.clip
    size = (row.get("width") or clip.width, row.get("height") or clip.height)
    for image_id, path in zip(row.get(f"{kind}_ids") or [], row.get(f"{kind}_paths") or [], strict=True):
        if any(known == image_id for _, known, _ in found) or image_id == row["sha"]:
            continue
        suffix = f"{kind}/{image_id[:8]}"
        target = row.new_file("reference_image", suffix)
        try:
            conform_image(row.input(path), target, clip, fit=settings.fit, size=size)
        except Reject as err:
            problems.append(f"{path}: {err}")
            continue
        found.append((suffix, image_id, target))
    if not found:
        hint = f"put images into {kind}/, or name them in the table's `{kind}` column"
        missing = kind if kind == "reference" else f"{kind} reference"
        raise Reject(f"no_{missing.replace(' ', '_')}", "; ".join(problems) or f"the source has no {missing}: {hint}")
    return found
