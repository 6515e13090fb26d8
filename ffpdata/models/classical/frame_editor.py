"""The embedded image editor: what the classical back ends do to a clip, done to one frame.

An object gets another look by the swapper's colours, patterns and materials, and a picture a style by the style
network. Nothing new is drawn: a thing that is not in the picture needs a trained model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffpdata.core.errors import Reject
from ffpdata.core.stage import ModelSpec
from ffpdata.models.classical.stylizer.magenta_style import MagentaStylizer, StylizerRuntime, StylizerSettings
from ffpdata.models.classical.swapper import Recolour, RecolourSettings
from ffpdata.models.protocols import EditedImage
from ffpdata.models.settings import BackendSettings, parse_runtime, parse_settings

if TYPE_CHECKING:
    from ffpdata.models.protocols import Image, Mask

OF_A_CLIP = ("source_flicker", "style_flicker", "style_passes", "coloured_least")
"""Facts that say nothing of one frame."""


class FrameEditorSettings(BackendSettings):
    """Settings of the two back ends that do the work."""

    modification: RecolourSettings = RecolourSettings()
    stylization: StylizerSettings = StylizerSettings()


class FrameEditor:
    """An `ImageEditor` for modifications and stylizations."""

    name = "frame_editor"
    version = 1 + Recolour.version + MagentaStylizer.version
    """Raised with either of them."""
    tasks = ("modification", "stylization")
    Settings = FrameEditorSettings
    Runtime = StylizerRuntime

    def __init__(self, spec: ModelSpec) -> None:
        settings = parse_settings(self.Settings, spec)
        runtime = parse_runtime(self.Runtime, spec).model_dump()
        self._recolour = Recolour(ModelSpec.of(Recolour, settings=settings.modification.model_dump()))
        self._stylizer = MagentaStylizer(
            ModelSpec.of(MagentaStylizer, settings=settings.stylization.model_dump(), runtime=runtime)
        )

    def close(self) -> None:
        """Free the style network."""
        self._recolour.close()
        self._stylizer.close()

    def edit_image(
        self,
        image: Image,
        *,
        task: str,
        prompt: str,
        mask: Mask | None = None,
        reference: Image | None = None,
        seed: int = 0,
    ) -> EditedImage:
        """Return the picture with its object in another look, or in the style of a reference.

        Args:
            image: uint8 (H, W, 3).
            task: `modification` or `stylization`.
            prompt: not read: the look follows from the object's colours and the seed.
            mask: bool (H, W), of a modification.
            reference: uint8 (h, w, 3), of a stylization.
            seed: chooses among the looks that suit.

        Returns:
            uint8 (H, W, 3), and the facts of `Recolour` or `MagentaStylizer` that say something of one frame.

        Raises:
            Reject: `needs_trained_model` for another task, `no_reference_image`, or as the two back ends.
        """
        if task == "modification":
            masks = np.zeros((1, *image.shape[:2]), bool) if mask is None else mask[None]
            edit = self._recolour.edit(image[None], masks, prompt=prompt, seed=seed)
        elif task == "stylization":
            if reference is None:
                raise Reject("no_reference_image", "the style network takes the style of a picture; there is none")
            depth = np.zeros((1, *image.shape[:2]), np.float32)  # not used
            edit = self._stylizer.stylize(image[None], depth, reference, prompt=prompt, seed=seed)
        else:
            raise Reject("needs_trained_model", f"{self.name} makes {' and '.join(self.tasks)}, and not {task}")
        return EditedImage(edit.frames[0], {k: v for k, v in edit.facts.items() if k not in OF_A_CLIP})
