"""Describe source and target by vectors, by which curation finds copies that perceptual hashes miss: crops, say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ffpdata.core.stage import Row, Stage
from ffpdata.media.clip_cache import cached_video
from ffpdata.media.clip_vector import vector_text
from ffpdata.media.metrics import evenly_spaced

ROLE = "embedder"

FRAMES = 3
"""First, middle and last frame, as for the hashes."""


class Embed(Stage):
    """Write the vectors. Without an embedder in the profile, items pass it without a row."""

    name, version = "embed", 1
    reads = ("source_video", "target_video")
    writes = {"source_vector": str, "target_vector": str}
    models = optional_models = (ROLE,)

    def applies(self, row: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """All items, where there is an embedder."""
        return ROLE in self.specs

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the mean vector of either clip's frames as text (`media.clip_vector`)."""
        vectors = {}
        for side in ("source", "target"):
            frames = cached_video(row.file(f"{side}_video"))
            vectors[f"{side}_vector"] = vector_text(
                np.mean(self.model(ROLE).embed([frames[t] for t in evenly_spaced(len(frames), FRAMES)]), axis=0)
            )
        return vectors
