"""The job of a training: its samples, its settings, and the paths of its files."""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from ffpdata.core.keys import digest
from ffpdata.core.stage import ModelSpec
from ffpdata.training.atomic_files import write_atomically
from ffpdata.training.sample import Sample
from ffpdata.training.settings import LoopSettings

VERSION = 1
"""Raised whenever the same job would give other weights: checkpoints of another version are not resumed."""

JOB, TRAINED = "job.json", "trained.json"
"""Files in the folder of a training."""

S = TypeVar("S", bound=Sample)
L = TypeVar("L", bound=LoopSettings)


@dataclass(frozen=True)
class Job(ABC, Generic[S, L]):
    """Everything that the training processes need to know.

    Attributes:
        samples: to train on.
        held_out: of other sources: their loss is measured, and the model draws the first of them.
        keys: item to a hash of all that its latents depend on but the model.
        spec: the profile's role.
        settings: of the training.
        folder: of all its files.
    """

    samples: tuple[S, ...]
    held_out: tuple[S, ...]
    keys: Mapping[str, str]
    spec: ModelSpec
    settings: L
    folder: Path

    method: ClassVar[str]
    """Import path of its `Method`, `module:Class`."""
    base_settings: ClassVar[tuple[str, ...]]
    """Settings of the role that the latents or the loss depend on."""

    @property
    @abstractmethod
    def files(self) -> tuple[str, ...]:
        """Stems of the files of trained weights that the training writes."""

    @property
    def processes(self) -> int:
        """Number of processes."""
        return self.settings.processes

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return self.settings.total_steps(len(self.samples))

    @property
    def drawn(self) -> tuple[S, ...]:
        """Held-out samples that are drawn."""
        return self.held_out[: self.settings.validation]

    @property
    def measured(self) -> tuple[S, ...]:
        """Held-out samples whose loss is measured."""
        return self.held_out[: self.settings.measured]

    @property
    def fingerprint(self) -> str:
        """Hash of all that the weights after a number of steps depend on; only its own checkpoints are resumed."""
        settings = self.settings.fingerprint(len(self.samples))
        keys = [[self.keys[sample.item_id] for sample in part] for part in (self.samples, self.measured)]
        return digest(VERSION, keys, settings, self.base(), *self.more())

    def more(self) -> tuple[Any, ...]:
        """Return what else the weights depend on."""
        return ()

    def base(self) -> dict[str, Any]:
        """Identity of the model that is trained: the role without its LoRAs and its sampling settings."""
        return self._base

    @cached_property
    def _base(self) -> dict[str, Any]:  # asked for every sample, of which there may be hundreds of thousands
        settings = self.spec.settings
        kept = {name: settings[name] for name in self.base_settings if name in settings}
        return self.spec.identity() | {"settings": kept}

    def lineage(self) -> dict[str, Any]:
        """Return what the lineage says of what was learned from."""
        names = ("samples", "held_out")
        return {name: [dict(sample.record()) for sample in getattr(self, name)] for name in names}

    def weights_file(self, stem: str) -> Path:
        """Path of a file of trained weights."""
        return self.folder / f"{stem}.safetensors"

    def latents_file(self, sample: S) -> Path:
        """Path of a sample's latents."""
        name = digest("latents", VERSION, self.keys[sample.item_id], self.base())
        return self.folder / "latents" / f"{name}.safetensors"

    def drawing(self, sample: S, revision: str) -> Path:
        """Path of the clip that the model makes of a sample, trained as in `revision`, or untrained for ""."""
        name = digest("drawing", VERSION, self.keys[sample.item_id], self.spec.identity(), revision)
        return self.folder / "drawings" / f"{name}.mp4"

    def write(self) -> Path:
        """Write `job.json` and return its path; it holds absolute paths of this machine."""
        kind = type(self)
        data = {"job": f"{kind.__module__}:{kind.__qualname__}", **self.data()}
        data |= {"spec": self.spec.model_dump(), "settings": self.settings.model_dump()}
        return write_atomically(self.folder / JOB, json.dumps(data, default=str, indent=1).encode())

    @abstractmethod
    def data(self) -> dict[str, Any]:
        """Return what `job.json` holds beside model and settings."""

    @classmethod
    @abstractmethod
    def of(cls, data: Mapping[str, Any], spec: ModelSpec, folder: Path) -> Self:
        """Return the job that `data` describes.

        Args:
            data: of `job.json`.
            spec: of `data`.
            folder: that it lies in.
        """


def read_job(path: Path) -> Job[Any, Any]:
    """Read what `Job.write` wrote."""
    data = json.loads(path.read_text(encoding="utf-8"))
    kind: type[Job[Any, Any]] = imported(data["job"])
    return kind.of(data, ModelSpec(**data["spec"]), path.parent)


def imported(path: str) -> Any:
    """Return what `module:name` stands for."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
