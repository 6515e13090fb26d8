"""A back end of one's own for the role `remover`: every frame is filled from its surroundings."""

import cv2
import numpy as np

from ffpdata import BackendSettings, Edit


class Telea:
    name, version = "telea", 1

    class Settings(BackendSettings):
        radius: float = 5.0

    def __init__(self, spec):
        self.settings = self.Settings(**spec.settings)

    def edit(self, frames, masks, *, prompt, negative="", reference=None, seed=0):
        around = self.settings.radius
        pairs = zip(frames, masks.astype(np.uint8), strict=True)
        return Edit(np.stack([cv2.inpaint(frame, mask, around, cv2.INPAINT_TELEA) for frame, mask in pairs]))

    def close(self):
        """Nothing is held."""
