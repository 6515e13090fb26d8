"""Planning a dataset from Python: what its pairs will cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffpdata.core.from_classes import override_texts

if TYPE_CHECKING:
    from ffpdata.planning.plan import Plan


def plan(
    *pipelines: str | Path,
    clips: float | None = None,
    pairs: float | Mapping[str, float] | None = None,
    gpus: int = 0,
    cpus: float | None = None,
    memory_gb: float | None = None,
    node_gpus: int | None = None,
    disk_gb: float | None = None,
    profile: str | None = None,
    preset: str = "",
    overrides: Sequence[str] | Mapping[str, Any] = (),
    run: str | Path | None = None,
    price: float | None = None,
) -> Plan:
    """Say what pairs will cost: GPU-hours, wall time, storage, questions and money, with intervals.

    Args:
        pipelines: names or files.
        clips: inputs of each pipeline.
        pairs: accepted pairs that are wanted in place of `clips`: of all together, or by track.
        gpus: of the cluster, those of model servers included.
        cpus: cores of the cluster.
        memory_gb: its main memory.
        node_gpus: GPUs of one machine.
        disk_gb: room for the run folder and the export.
        profile: which models.
        preset: `paper`, `economy` or a file: profile, pairs and assumptions together.
        overrides: settings as of `run`; those below `plan` change assumptions: `["plan.duplicates=0.05"]`.
        run: a run whose measurements are taken; without `clips` and `pairs` what is left of it is planned.
        price: US dollars for an hour of a GPU.

    Returns:
        The plan: `as_dict()` is what `ffpdata plan --json` prints, `str()` its page of text; `quantities`, `stages` and
        `per_pair` hold arrays of an estimate and its draws, `interval` their ends.

    Raises:
        UsageError: what is asked for is wrong, or says too little.
        ConfigError: a pipeline, profile, preset or setting is wrong.
        FatalError: the manifests of the run cannot be read.
    """
    from ffpdata.planning.estimate import Request, make_plan

    return make_plan(
        Request(
            [str(pipeline) for pipeline in pipelines],
            clips=clips,
            pairs=pairs,
            gpus=gpus,
            cpus=cpus,
            memory_gb=memory_gb,
            node_gpus=node_gpus,
            disk_gb=disk_gb,
            profile=profile,
            preset=preset,
            overrides=override_texts(overrides),
            run=run,
            price=price,
        )
    )
