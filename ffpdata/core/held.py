"""What an item holds of GPUs while a stage is at it: those of its worker, and those of a model server that it asks."""

from __future__ import annotations

from collections.abc import Mapping

from ffpdata.core.pipeline import Pipeline, StageEntry, held_by
from ffpdata.core.pipeline_check import stage_class
from ffpdata.core.stage import ModelSpec, of_role

SERVED = "vision_language"
"""Role of models that may stand behind a server of their own."""
OURS = "ffpdata.stages."


def gpus_of(pipeline: Pipeline, entry: StageEntry) -> float:
    """Return the GPUs that an item of a stage holds. No code of a stage of the user's own is imported for it."""
    own = pipeline.resources.get(entry.name)
    worker, served = (own.gpus if own else None) or 0.0, 0.0
    if entry.use.startswith(OURS):
        cls = stage_class(entry.use)
        specs = {key: spec for role in cls.models for key, spec in of_role(pipeline.models, role).items()}
        worker, served = cls.resources.overlaid(held_by(specs), own).gpus, served_gpus(specs)
    return worker + served


def served_gpus(specs: Mapping[str, ModelSpec]) -> float:
    """Return the GPUs of a model server that a question holds while it is answered; 0 where workers share its card."""
    for spec in of_role(specs, SERVED).values():
        server = spec.runtime.get("server") or {}
        if spec.runtime.get("endpoint") and server and not server.get("shared"):
            return float(server.get("cards", 1)) / float(server.get("sequences", 1))
    return 0.0
