"""The training of a round: reads its samples from the run folder and writes its model there, here or on a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ffpdata.core.errors import FatalError, FfpdataError, UsageError
from ffpdata.core.keys import digest
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.models.requirements import wants_gpu
from ffpdata.refine.removal_results import RemovalResult
from ffpdata.refine.round import TRAINING, VALIDATION, Round
from ffpdata.storage.scratch import DownloadsInUse
from ffpdata.training.finetune import finetune
from ffpdata.training.removal_sample import CLIPS, RemovalSample
from ffpdata.training.results import LOSSES, SHEET
from ffpdata.training.vace_lora import LORA

Say = Callable[[str], None]


def train(run: RunFolder, current: Round, folder: Path | None, say: Say, *, on_ray: bool) -> None:
    """Train the round's model and write it into the run folder.

    Args:
        run: the run.
        current: a round with a plan.
        folder: for the files that the training needs while it runs; None: in the run folder, if that is local.
        say: called with each line of progress.
        on_ray: train in a task of the cluster of `RAY_ADDRESS`, on a node with `train.gpus` GPUs.

    Raises:
        FatalError: as in `finetune.finetune`, or the cluster has no such node.
        UsageError: the run is remote and no folder is given.
    """
    if folder is None and not run.store.local:
        raise UsageError(f"{run.store.root} is no local folder: name one for the training with --work DIR")
    if not on_ray:
        _train(run.store.root, current.number, folder, say)
        return
    import ray

    from ffpdata.processes.ray_cluster import ray_cluster

    plan = current.plan
    gpus = plan.settings.train.gpus if wants_gpu(plan.base) else 0
    with ray_cluster():
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        most = max((node["Resources"].get("GPU", 0) for node in nodes if node["Alive"]), default=0)
        if most < gpus:
            raise FatalError(f"train.gpus is {gpus}, and no node of the cluster has more than {most:g}")
        task = ray.remote(num_gpus=gpus, num_cpus=1, max_retries=0)(_train)
        say(f"Training on the cluster, on {gpus} GPUs of one node" if gpus else "Training on the cluster")
        try:
            ray.get(task.remote(run.store.root, current.number, folder))
        except ray.exceptions.RayTaskError as err:
            if isinstance(err.cause, FfpdataError):
                raise err.cause from None
            raise


def _train(root: str, number: int, folder: Path | None, say: Say = print) -> None:
    run = RunFolder(root)
    store, current = run.store, Round(run.store, number)
    plan, work = current.plan, _work_folder(current, folder)
    with store.hold() as in_use:
        samples, validation = (
            [_sample(run, each, in_use) for each in current.table(n)] for n in (TRAINING, VALIDATION)
        )
        tuned = finetune(samples, validation, plan.base, plan.settings.train, work, say)
    for source, name in ((tuned.weights[LORA], current.lora), (tuned.sheet, SHEET), (work / LOSSES, LOSSES)):
        if source is not None:
            temp = store.temp_file(name)
            shutil.copyfile(source, temp)
            store.commit(temp, current.path(name))
    current.write_json("lineage.json", tuned.lineage)  # last: it says that the model is complete


def remove_training_files(current: Round, folder: Path | None) -> None:
    """Remove the files that the training needed while it ran: latents are large."""
    if folder or current.store.local:
        shutil.rmtree(_work_folder(current, folder), ignore_errors=True)


def _work_folder(current: Round, folder: Path | None) -> Path:
    if folder is None:
        return current.store.local_path(current.path("training"))
    return folder / f"round-{current.number:03d}"


def _sample(run: RunFolder, accepted: RemovalResult, in_use: DownloadsInUse) -> RemovalSample:
    files = {column: run.store.fetch(accepted.files[column], in_use) for column in CLIPS}
    names = [Path(accepted.files[column]).name for column in CLIPS]  # a run's files are named by their content
    return RemovalSample(
        item_id=accepted.item_id,
        content=digest(names),
        prompt=accepted.prompt,
        negative=accepted.negative,
        seed=accepted.seed,
        pair=accepted.pair,
        verdict="accept",
        **files,
    )
