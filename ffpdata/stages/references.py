"""Fan a clip out over its style references (paper, sections 3.2 and 7.3: several references per source)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from ffpdata.core.stage import Artifact, Child, Reject, Row, Stage, StageSettings
from ffpdata.media.codec import read_first_frame, read_image
from ffpdata.media.geometry import Geometry
from ffpdata.media.images import Fit, conform_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLOUR = 0.4
"""Weight of a difference in colour against one in lightness: a style may bring colours, and should be as light."""


class ReferencesSettings(StageSettings):
    """Number and size of the style images."""

    clip: Geometry = Geometry()
    most: int = Field(default=0, ge=0)
    """Most references of a clip whose input names none: those whose lightness, contrast and colours are nearest to its
    own. 0: all that it was offered."""
    fit: Fit = "crop"
    """`crop`: fill the size and cut off what is beyond it. `whole`: all of the image at its own shape, as large as fits
    into the clip; VACE's back ends put it on a white canvas themselves, and a vision-language model sees no border.
    `pad`: on such a canvas already here, for a stylizer that wants the clip's size."""

    @model_serializer(mode="wrap")
    def _without_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is as if there were no choice: what was made before there was one keeps its keys."""
        found: dict[str, Any] = dump(self)
        return {name: value for name, value in found.items() if (name, value) not in (("fit", "crop"), ("most", 0))}


class References(Stage):
    """Write one item per style image, `<clip>/style/<id>`, with the image at the clip's size."""

    name, version = "references", 1
    reads = ("style_ids", "sha", "source_video", "styles_offered")
    uses = ("root", "style_paths", "width", "height")
    optional: ClassVar[tuple[str, ...]] = ("width", "height", "styles_offered")
    added: ClassVar[tuple[str, ...]] = ("styles_offered",)
    writes = {"reference_image": Artifact("png"), "style_id": str, "task": str, "variant": str, "seed": int}
    fan_out = True
    Settings = ReferencesSettings

    def expand(self, row: Row) -> list[Child]:
        """Return one child per readable style image; a clip without any is rejected."""
        children = []
        for suffix, style_id, image in conform_references(row, "style", self.settings):
            columns = {"reference_image": image, "style_id": style_id, "task": "stylization", "variant": style_id[:8]}
            children.append(Child(suffix, {**columns, "seed": int(style_id[:7], 16)}))
        most = self.settings.most
        if not row.get("styles_offered") or not 0 < most < len(children):
            return children
        look = _look(read_first_frame(row.file("source_video")))
        away = [float(np.linalg.norm(_look(read_image(one.columns["reference_image"])) - look)) for one in children]
        nearest = sorted(range(len(children)), key=lambda i: (away[i], children[i].suffix))[:most]
        return [children[i] for i in sorted(nearest)]


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


def _look(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what makes pictures suit each other: mean and spread of CIE lightness, and the mean colour, (4,)."""
    small = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2Lab).reshape(-1, 3)
    mean, spread = lab.mean(axis=0), lab.std(axis=0)
    return np.array([mean[0], spread[0], _COLOUR * mean[1], _COLOUR * mean[2]], np.float64)
