"""Parts of a Wan pipeline, in memory for the length of a with block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ffpdata.models.wan.attention import resolve, select
from ffpdata.models.wan.loading import load, stdout_to_stderr

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.wan.loading import LoadPlan
    from ffpdata.training.process import TrainingProcess


def on_device(spec: ModelSpec, process: TrainingProcess) -> ModelSpec:
    """Return a role as it runs in one of the processes of a training: on its device alone."""
    runtime = {**spec.runtime, "device": str(process.device), "sequence_parallel": 1}
    return spec.model_copy(update={"runtime": runtime})


@contextlib.contextmanager
def loaded(plan: LoadPlan, process: TrainingProcess, attention: str) -> Iterator[Any]:
    """Load the pipeline of a plan for the length of a with block.

    Args:
        plan: of a trainer.
        process: this one.
        attention: the setting of this name.
    """
    parts = " and ".join(part for part, _ in plan.parts.files)
    with stdout_to_stderr(), process.memory(f"loading {parts}"):
        pipe = load(plan)
    kernel = resolve(attention)
    select("sdpa" if kernel == "sage" else kernel)  # SageAttention has no backward pass
    try:
        yield pipe
    finally:
        for name, _ in list(pipe.named_children()):
            setattr(pipe, name, None)
        process.release_memory()
