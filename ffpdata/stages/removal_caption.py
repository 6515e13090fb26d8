"""Caption the scene without the object (paper, section 7.1.1, removal caption)."""

from __future__ import annotations

from ffpdata.stages._vision import TargetCaption


class RemovalCaption(TargetCaption):
    """Write `target_caption`, which guides a removal in place of the original caption."""

    name, version = "removal_caption", 1
    prompts = ("removal_caption",)
    task = "removal"
