"""Make a small draft of a stylization, by which `draft_check` decides whether the full one is made; as `draft`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Row, Stage
from ffpdata.media.clip_cache import cached_video
from ffpdata.media.codec import read_gray
from ffpdata.media.encoders import check_encoder
from ffpdata.media.shrink import shrunk
from ffpdata.stages._drafts import STYLIZER, WRITES, DraftSize, drafted_by, write_draft
from ffpdata.stages._encoding import EncodingSettings
from ffpdata.stages.stylize import Stylize, stylized


class DraftStyleSettings(EncodingSettings, DraftSize):
    """Size of a draft, and the encoder."""


class DraftStyle(Stage):
    """Write `draft_video`, or why the model makes none. Without `draft_stylizer` items pass without a row."""

    name, version = "draft_style", 1
    reads = Stylize.reads
    uses = ("fps", "task")
    writes = WRITES
    facts_column = "draft_facts"
    models = optional_models = (STYLIZER,)
    Settings = DraftStyleSettings

    def applies(self, row: Mapping[str, Any]) -> bool:
        """All items, where there is a draft role."""
        return bool(drafted_by(self.specs, row))

    def setup(self) -> None:
        """Load the model, and try the encoder."""
        check_encoder(self.settings.encoder)
        super().setup()

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the draft."""
        source = cached_video(row.file("source_video"))
        size = self.settings.size_for(source.shape[2], source.shape[1])
        frames, depth = (shrunk(array, *size) for array in (source, read_gray(row.file("depth_video"))))
        return write_draft(
            row,
            lambda: stylized(self.model(STYLIZER), row, frames, depth, scale=size[0] / source.shape[2]),
            self.settings.encoder,
        )
