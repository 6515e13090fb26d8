"""Fan a clip out over its style references (paper, sections 3.2 and 7.3: several references per source)."""

from __future__ import annotations

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
        children: list[Child] = []
        problems: list[str] = []
        clip = self.settings.clip
        size = (row.get("width") or clip.width, row.get("height") or clip.height)
        for style_id, path in zip(row.get("style_ids") or [], row.get("style_paths") or [], strict=True):
            if any(child.columns["style_id"] == style_id for child in children) or style_id == row["sha"]:
                continue
            suffix = f"style/{style_id[:8]}"
            target = row.new_file("reference_image", suffix)
            try:
                conform_image(row.input(path), target, clip, fit=self.settings.fit, size=size)
            except Reject as err:
                problems.append(f"{path}: {err}")
                continue
            columns = {"reference_image": target, "style_id": style_id, "task": "stylization", "variant": style_id[:8]}
            children.append(Child(suffix, {**columns, "seed": int(style_id[:7], 16)}))
        if not children:
            hint = "put images into style/, or name them in the table's `style` column"
            raise Reject("no_style_reference", "; ".join(problems) or f"the source has no style reference: {hint}")
        return children
