"""The job of a training on an export: the same everywhere the export can be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ffpdata.core.errors import FatalError
from ffpdata.core.keys import digest
from ffpdata.core.stage import ModelSpec
from ffpdata.export.dataset import Dataset
from ffpdata.export.indexed import IndexedPairs, changes
from ffpdata.models.propagation.model_folder import HEADS, SETTINGS
from ffpdata.models.propagation.settings import PropagationSettings
from ffpdata.propagation.recipe import Recipe
from ffpdata.propagation.sample import PropagationSample, check_tasks, choose
from ffpdata.storage.store import Store
from ffpdata.training.atomic_files import write_atomically
from ffpdata.training.job import Job
from ffpdata.training.settings import LoopSettings

DATA = "data.json"
"""File in the folder of a training: which shards it learns from, by digest."""

OPTIMISATION = ("epochs", "learning_rate", "schedule", "warmup", "weight_decay", "clip_norm", "gradient_checkpointing")
"""Settings of the model that the loop takes, and that count there."""


@dataclass(frozen=True)
class PropagationJob(Job[PropagationSample, LoopSettings]):
    """A training on an export.

    Attributes:
        pairs: the export.
        recipe: what is trained.
        model: its settings of the model.
    """

    pairs: IndexedPairs
    recipe: Recipe
    model: PropagationSettings

    method = "ffpdata.propagation.method:PropagationMethod"
    base_settings = ("sources", "tiles", "dtype")

    @classmethod
    def make(cls, dataset: str | Path, recipe: Recipe, spec: ModelSpec, folder: Path) -> Self:
        """Read the export's index, and choose what is learned from.

        Raises:
            ConfigError: the recipe does not fit the export.
            FatalError: no complete export is there, or it is damaged.
        """
        data, model = recipe.data, recipe.model_settings()
        there = {shard.split for shard in Dataset.load(Store(dataset)).shards}
        held_out_splits = [split for split in data.held_out if split in there]
        pairs = IndexedPairs(dataset, [*data.splits, *held_out_splits])
        check_tasks(pairs, data.tasks)
        chosen = choose(pairs, data, model.frames)
        samples = tuple(each for each in chosen if each.sample.split in data.splits)
        held_out = tuple(each for each in chosen if each.sample.split in held_out_splits)
        keys = {each.item_id: digest(each.content, model.clip_embedding) for each in chosen}
        return cls(samples, held_out, keys, spec, recipe.loop_settings(), folder, pairs, recipe, model)

    @property
    def files(self) -> tuple[str, ...]:
        """The LoRA, or every weight; and the mask's columns with the predictor, where there are any."""
        own = ("propagation",) if self.model.mask_channels or self.model.ast_rope else ()
        return ("lora" if self.model.rank else "transformer", *own)

    def more(self) -> tuple[Any, ...]:
        """Return the model's settings and the classes of its heads."""
        own = self.model.model_dump(mode="json", exclude=set(OPTIMISATION))
        return own, self.heads()

    def heads(self) -> list[list[bool]] | None:
        """Return per layer and head whether it is temporal; None without AST-RoPE."""
        if not self.model.ast_rope:
            return None
        from ffpdata.models.propagation.heads import read_heads

        return read_heads(self.folder / HEADS).temporal

    def check_data(self) -> None:
        """Record the shards at the first start; later they must be the same.

        Raises:
            FatalError: the export has changed; the message says what.
        """
        path = self.folder / DATA
        if not path.is_file():
            told = {"dataset": self.pairs.store.root, "shards": self.pairs.shards}
            write_atomically(path, (json.dumps(told, indent=1) + "\n").encode())
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        if found := changes(before["shards"], self.pairs.shards):
            raise FatalError(
                f"{self.pairs.store.root} is not the dataset that {self.folder} learned from ({before['dataset']}): "
                f"{'; '.join(found)}. Put it back, or train into a new folder"
            )

    def lineage(self) -> dict[str, Any]:
        """Return the export, its shards and the samples that were learned from."""
        about = self.pairs.about()
        told = {name: about[name] for name in ("name", "counts", "licences") if name in about}
        base = json.loads((self.folder / SETTINGS).read_text(encoding="utf-8"))["base"]
        return {
            "recipe": self.recipe.name,
            "preset": self.recipe.preset,
            "model": self.model.model_dump(mode="json"),
            "base_digest": base["digest"],
            "dataset": {**told, "shards": self.pairs.shards, **self.recipe.data.model_dump(mode="json")},
            "samples": len(self.samples),
            "held_out": [sample.record() for sample in self.held_out[: len(self.measured)]],
            "samples_digest": digest(sorted(self.keys.values())),
        }

    def data(self) -> dict[str, Any]:
        """Return where the export is, and the recipe; its index is read again by each process."""
        return {"dataset": self.pairs.store.root, "recipe": self.recipe.model_dump(mode="json")}

    @classmethod
    def of(cls, data: Mapping[str, Any], spec: ModelSpec, folder: Path) -> Self:
        """Return the job of `data`; raises FatalError where the export has changed meanwhile."""
        job = cls.make(data["dataset"], Recipe(**data["recipe"]), spec, folder)
        job.check_data()
        return job
