"""Trains the model of first-frame propagation on an export: `ffpdata train DATASET OUT`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import ConfigError, FatalError, UsageError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.propagation.heads import check_heads, read_heads
from ffpdata.models.propagation.model_folder import HEADS, base_digest
from ffpdata.models.settings import check
from ffpdata.models.wan.checkpoint_files import TRANSFORMER
from ffpdata.models.wan.loading import require
from ffpdata.propagation.job import DATA, PropagationJob
from ffpdata.propagation.recipe import Recipe
from ffpdata.training.atomic_files import make_atomically
from ffpdata.training.results import Trained
from ffpdata.training.results import train as run_job

ROLE, PIPELINE = "propagator", "propagate"
"""The role that is trained, and the pipeline that has it."""


def propagator_of(profile: str | None, trained: str = "") -> ModelSpec:
    """Return the propagator of a profile.

    Args:
        profile: names with commas between, as for `ffpdata run`; None takes that of the pipeline.
        trained: folder of a trained model, which is laid over it; empty for the profile's own.

    Raises:
        ConfigError: the profile has none.
    """
    overrides = [f"models.{ROLE}.settings.trained={Path(trained).expanduser().resolve()}"] if trained else []
    pipeline = load_pipeline(PIPELINE, profile, overrides)
    if ROLE not in pipeline.models:
        raise ConfigError(f"profile {pipeline.profile} names no {ROLE}: use one that does, e.g. --profile gpu")
    return pipeline.models[ROLE]


def train(dataset: str, out: Path, recipe: Recipe, spec: ModelSpec, say: Callable[[str], None]) -> Trained:
    """Train on an export; a call that was interrupted is resumed by the same call, a finished one returns at once.

    Args:
        dataset: folder or URL of the export.
        out: folder of the model and of all files of its training.
        recipe: what is trained.
        spec: the profile's propagator: the base.
        say: called with each line of progress.

    Raises:
        ConfigError: the back end cannot be trained, or the recipe fits neither the export nor the base.
        FatalError: the export is not complete, or has changed since the first start; the heads are those of another
            base; or as `results.train`.
    """
    backend = spec.load_class()
    if not hasattr(backend, "training_plan"):
        raise ConfigError(f"the propagator {spec.backend} cannot be trained: use a profile with Fun-Control, e.g. gpu")
    if spec.settings.get("trained"):
        raise ConfigError("the profile's propagator is a trained model already: name a base, without `trained`")
    check(spec)
    require("torch", "diffsynth", "accelerate", "peft")
    out = out.expanduser().resolve()
    _check_place(out)
    plan = backend.training_plan(spec, (TRANSFORMER,))
    _take_heads(recipe, base_digest(plan.parts), out)
    job = PropagationJob.make(dataset, recipe, spec, out)
    if not job.samples:
        raise ConfigError(f"{dataset}: no pair of {', '.join(recipe.data.splits)} is what the recipe's `data` asks for")
    job.check_data()
    return run_job(job, say)


def _check_place(out: Path) -> None:
    """Refuse a folder that holds something else."""
    if out.is_file():
        raise UsageError(f"{out} is a file: name a folder for the model")
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if there and not {DATA, HEADS} & set(there):
        raise UsageError(f"{out} holds {there[0]} and no training: name a new or an empty folder")


def _take_heads(recipe: Recipe, base: str, out: Path) -> None:
    """Copy the classes of the heads into the folder of the model, after a look whether they are those of its base."""
    if not recipe.model_settings().ast_rope:
        return
    own = out / HEADS
    given = Path(recipe.heads).expanduser() if recipe.heads else own
    if not given.is_file():
        raise ConfigError(
            f"preset {recipe.preset} scales the positions of spatial and temporal heads, and "
            f"{given if recipe.heads else '`heads`'} is missing: classify them by `ffpdata heads`, and name the file "
            "with --set heads=FILE; or take --preset baseline"
        )
    heads = read_heads(given)
    check_heads(heads, base, given)
    frames = recipe.model_settings().frames
    if heads.frames != frames:
        raise ConfigError(f"{given}: classified on {heads.frames} frames, the recipe trains {frames}: classify anew")
    if given != own:
        if own.is_file() and json.loads(own.read_text()) != json.loads(given.read_text()):
            raise FatalError(f"{out} was begun with other heads than {given}: train into a new folder")
        make_atomically(own, lambda temp: shutil.copyfile(given, temp))
