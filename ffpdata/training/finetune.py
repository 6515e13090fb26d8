"""Fine-tunes the remover: accepted removals become a LoRA over VACE, with its lineage.

A sample is the remover's own input, made by the same code as in a run (`models.vace.control_inputs`, `make_request`),
with the accepted target as the clip to learn. The work is done in processes of its own (`training.trainer`), so that
all GPU memory is free afterwards; it can be killed at any instant, and the same call resumes it.

The LoRA is trained on the checkpoint's plain weights. LoRAs that the profile names (`settings.loras`, e.g. a distilled
model of few steps) are left out of the training and used for the drawings; the new LoRA is added to them. The LoRA of
an earlier round must therefore not be in `spec`: the new one replaces it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ffpdata.core.errors import ConfigError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.settings import check
from ffpdata.models.wan.loading import require
from ffpdata.training.removal_sample import RemovalSample, check_samples, content_key
from ffpdata.training.results import Trained, train
from ffpdata.training.settings import LoraSettings
from ffpdata.training.vace_lora import VaceJob


def finetune(  # noqa: PLR0917 - the interface of a round
    samples: Sequence[RemovalSample],
    validation: Sequence[RemovalSample],
    spec: ModelSpec,
    settings: LoraSettings,
    folder: Path,
    say: Callable[[str], None],
) -> Trained:
    """Train a LoRA on accepted removals.

    A call that was interrupted is resumed by the same call; a finished one returns at once.

    Args:
        samples: to train on.
        validation: held out, of other sources: their loss is measured, and the remover draws the first of them without
            and with the LoRA.
        spec: the profile's `remover`; its own LoRAs are not part of the training (see the module).
        settings: of the training.
        folder: for all files of this training.
        say: called with each line of progress.

    Returns:
        The LoRA, as `weights["lora"]`, and its lineage. The folder also holds `losses.csv` (step, loss, held_out),
        `loss.svg` and `train.log`.

    Raises:
        ConfigError: the back end cannot be trained, there is no sample, or as `results.train`.
        FatalError, GpuMemoryError: as `results.train`.
    """
    check_trainable(spec)
    check(spec)
    check_samples(samples, validation)
    require("torch", "diffsynth", "accelerate", "peft")
    keys = {sample.item_id: content_key(sample) for sample in (*samples, *validation)}
    job = VaceJob(tuple(samples), tuple(validation), keys, spec, settings, folder.resolve())
    if spec.settings.get("loras"):
        say("the profile's LoRAs are left out of the training and used for the drawings")
    return train(job, say)


def check_trainable(spec: ModelSpec) -> None:
    """Raise ConfigError where a back end cannot be fine-tuned; it says which can."""
    if not hasattr(spec.load_class(), "training_plan"):
        raise ConfigError(
            f"the remover {spec.backend} cannot be fine-tuned: use a profile whose remover is "
            "ffpdata.models.vace:Vace, e.g. --profile gpu"
        )
