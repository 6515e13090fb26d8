"""Make a small draft of an edit, by which `draft_check` decides whether the full one is made: spend late.

A draft is the same synthesis at a smaller size, by a role of its own: the same model with fewer steps, a distilled LoRA
over it, or a smaller model. FFP-300K has no drafts; a profile without `draft_remover` and `draft_swapper` makes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row, Stage
from ffpdata.media.clip_cache import cached_masks, cached_video
from ffpdata.media.encoders import check_encoder
from ffpdata.media.shrink import shrunk
from ffpdata.stages._drafts import EDITORS, WRITES, DraftSize, drafted_by, write_draft
from ffpdata.stages.synthesize import Synthesize, SynthesizeSettings, edited


class DraftSettings(SynthesizeSettings, DraftSize):
    """Size of a draft; negative prompts and encoder as of `synthesize`."""


class Draft(Stage):
    """Write `draft_video`, or why the model makes none. Where no role drafts their task, items pass without a row."""

    name, version = "draft", 1
    reads = Synthesize.reads
    uses = ("fps",)
    optional = ("target_caption", "reference_image")
    writes = WRITES
    facts_column = "draft_facts"
    models = optional_models = EDITORS
    Settings = DraftSettings

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Edits whose task has a draft role, by a model that makes such edits."""
        return bool(drafted_by(self.specs, row))

    def roles(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the role that drafts the row's task: another draft of removals redoes no other."""
        return drafted_by(self.specs, row)

    def setup(self) -> None:
        """Load the models, and try the encoder."""
        check_encoder(self.settings.encoder)
        super().setup()

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the draft."""
        [role] = self.roles(row)
        source = cached_video(row.file("source_video"))
        size = self.settings.size_for(source.shape[2], source.shape[1])
        frames, masks = (shrunk(array, *size) for array in (source, cached_masks(row.file("condition_mask"))))
        scale = size[0] / source.shape[2]
        return write_draft(
            row,
            lambda: edited(self.model(role), row, frames, masks, self.settings, scale=scale),
            self.settings.encoder,
        )
