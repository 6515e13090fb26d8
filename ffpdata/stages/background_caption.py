"""Caption the same object in another place."""

from __future__ import annotations

from ffpdata.stages._vision import TargetCaption


class BackgroundCaption(TargetCaption):
    """Write `target_caption`, which says what a change of the background paints around the object."""

    name, version = "background_caption", 1
    prompts = ("background_caption",)
    task = "background"
