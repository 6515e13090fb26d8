"""The job of a tuning to one clip: its samples, as arrays in its folder, and what it goes on from (LoRA-Edit)."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ffpdata.core.errors import FatalError
from ffpdata.core.keys import digest
from ffpdata.core.stage import ModelSpec
from ffpdata.models.loraedit.settings import TuningSettings
from ffpdata.training.atomic_files import write_atomically
from ffpdata.training.job import Job
from ffpdata.training.results import plain_name
from ffpdata.training.settings import LoopSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.protocols import Frames

    Masks = NDArray[np.bool_]

LORA = "lora"


@dataclass(frozen=True)
class ClipSample:
    """What is learned in a step: frames, the region that is blank in them, and what belongs there.

    Attributes:
        item_id: its name in the tuning.
        file: of its arrays.
        content: hash of all of it.
        text: with the special token.
        size: frames, height and width.
    """

    item_id: str
    file: Path
    content: str
    text: str
    size: tuple[int, int, int]

    @property
    def label(self) -> str:
        """The line above its pictures on a contact sheet."""
        return f"{self.item_id}: {self.text}"

    @property
    def bucket(self) -> tuple[int, int, int]:
        """Its size."""
        return self.size

    def arrays(self) -> tuple[Frames, Masks, Frames]:
        """Return frames, uint8 (T, H, W, 3), region, bool (T, H, W), and target, as the frames.

        Raises:
            FatalError: the file is damaged.
        """
        try:
            with np.load(self.file) as found:
                return found["frames"], found["region"], found["target"]
        except (OSError, ValueError, KeyError) as err:
            raise FatalError(f"{self.file}: not the arrays of a tuning ({err}): remove {self.file.parent}") from err

    def shown(self) -> dict[str, Frames]:
        """Return frames and target."""
        frames, _, target = self.arrays()
        return {"source": frames, "target": target}

    def record(self) -> dict[str, str]:
        """Return what the lineage records of it."""
        return {"item_id": self.item_id, "content": self.content, "text": self.text}


def sample_of(path: Path, *, frames: Frames, region: Masks, target: Frames, text: str) -> ClipSample:
    """Write a sample's arrays to a `.npz`, where it is not there yet, and return it."""
    content = digest(*(array_digest(array) for array in (frames, region, target)), text)
    if not path.is_file():
        stream = io.BytesIO()
        np.savez(stream, frames=frames, region=region, target=target)
        write_atomically(path, stream.getvalue())
    return ClipSample(path.stem, path, content, text, frames.shape[:3])


def array_digest(array: NDArray[Any]) -> str:
    """Hash an array: shape, type and content."""
    return digest(str(array.dtype), list(array.shape), bytes_digest(np.ascontiguousarray(array).tobytes()))


def bytes_digest(data: bytes) -> str:
    """Hash bytes."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class ClipJob(Job[ClipSample, LoopSettings]):
    """One of the two parts of a tuning.

    Attributes:
        tuning: its settings.
        begin: file of the LoRA that it goes on from; empty for none.
        begun: digest of that file.
    """

    tuning: TuningSettings
    begin: str = ""
    begun: str = ""

    method = "ffpdata.propagation.clip_method:ClipMethod"
    base_settings = ("sources", "tiles", "dtype", "clip_embedding")

    @classmethod
    def make(
        cls,
        samples: Iterable[ClipSample],
        steps: int,
        spec: ModelSpec,
        tuning: TuningSettings,
        folder: Path,
        *,
        begin: Path | None = None,
        begun: str = "",
    ) -> Self:
        """Return the job of some samples.

        Args:
            samples: to learn.
            steps: of the optimizer.
            spec: of the role.
            tuning: its settings.
            folder: of all its files.
            begin: as the attribute.
            begun: likewise.
        """
        found = tuple(samples)
        keys = {sample.item_id: sample.content for sample in found}
        settings = LoopSettings(
            learning_rate=tuning.learning_rate,
            weight_decay=tuning.weight_decay,
            clip_norm=tuning.clip_norm,
            steps=steps,
            save_every=tuning.save_every,
            seed=tuning.seed,
            gradient_checkpointing=tuning.gradient_checkpointing,
            validation=0,
            measured=0,
        )
        return cls(found, (), keys, spec, settings, folder, tuning, str(begin or ""), begun)

    @classmethod
    def identity_of(cls, spec: ModelSpec) -> dict[str, Any]:
        """Return what a tuning depends on beside the transformer's bytes: encoders by the checkpoint's name."""
        kept = {name: spec.settings[name] for name in cls.base_settings if name in spec.settings}
        own = spec.identity()
        named = [plain_name(spec.model), spec.revision]
        return {"backend": own["backend"], "version": own["version"], "model": named, "role": kept}

    @property
    def files(self) -> tuple[str, ...]:
        """The LoRA."""
        return (LORA,)

    def more(self) -> tuple[Any, ...]:
        """Return rank, layers and what it goes on from."""
        return self.tuning.rank, list(self.tuning.layers), self.begun

    def lineage(self) -> dict[str, Any]:
        """Return the samples, and what the tuning goes on from."""
        return {**super().lineage(), "goes_on_from": self.begun}

    def data(self) -> dict[str, Any]:
        """Return the samples, with absolute paths of this machine."""
        return {
            "samples": [vars_of(sample) for sample in self.samples],
            "tuning": json.loads(self.tuning.model_dump_json()),
            "begin": self.begin,
            "begun": self.begun,
        }

    @classmethod
    def of(cls, data: Mapping[str, Any], spec: ModelSpec, folder: Path) -> Self:
        """Return the job of `data`."""
        samples = tuple(
            ClipSample(**entry | {"file": Path(entry["file"]), "size": tuple(entry["size"])})
            for entry in data["samples"]
        )
        keys = {sample.item_id: sample.content for sample in samples}
        settings, tuning = LoopSettings(**data["settings"]), TuningSettings(**data["tuning"])
        return cls(samples, (), keys, spec, settings, folder, tuning, data["begin"], data["begun"])


def vars_of(sample: ClipSample) -> dict[str, Any]:
    """Return a sample as plain data."""
    return {
        "item_id": sample.item_id,
        "file": str(sample.file),
        "content": sample.content,
        "text": sample.text,
        "size": list(sample.size),
    }
