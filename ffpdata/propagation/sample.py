"""A training sample: a pair of an export, with what the model is shown of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ffpdata.core.errors import ConfigError, shown
from ffpdata.core.keys import digest
from ffpdata.export.indexed import IndexedPairs, IndexedSample
from ffpdata.export.pair_record import FIRST_FRAME, RECORD, SOURCE, TARGET
from ffpdata.media.geometry import check_clip

if TYPE_CHECKING:
    from ffpdata.models.protocols import Frames, Image
    from ffpdata.propagation.recipe import DataSettings


@dataclass(frozen=True, slots=True)
class PropagationSample:
    """A pair to train on, or a held-out one. Nothing of it is in memory but its row of the index.

    Attributes:
        pairs: the export that it is read from.
        sample: its row.
        frames: number of frames that are taken, from the first.
    """

    pairs: IndexedPairs
    sample: IndexedSample
    frames: int

    @property
    def item_id(self) -> str:
        """Its key in the export."""
        return self.sample.key

    @property
    def label(self) -> str:
        """The line above its pictures on the contact sheet."""
        return f"{self.sample.key}: {self.sample.instruction}"

    @property
    def bucket(self) -> tuple[int, int]:
        """Width and height: orientation and size."""
        return self.sample.width, self.sample.height

    @property
    def content(self) -> str:
        """Hash of what is learned from: files by the digests that the index has of them, and the number of frames."""
        members = self.sample.members
        return digest([members[name].sha256 for name in (SOURCE, TARGET, FIRST_FRAME, RECORD)], self.frames)

    def source(self) -> Frames:
        """Return the source's first frames, uint8 (T, H, W, 3)."""
        frames: Frames = self.pairs.source(self.sample, self.frames)
        return frames

    def target(self) -> Frames:
        """Return the target's first frames, uint8 (T, H, W, 3)."""
        frames: Frames = self.pairs.target(self.sample, self.frames)
        return frames

    def first_frame(self) -> Image:
        """Return the edited first frame, uint8 (H, W, 3)."""
        image: Image = self.pairs.edited_first_frame(self.sample)
        return image

    def text(self) -> str:
        """Return what the target shows: its caption, or the instruction where it has none.

        Fun-Control was trained on captions of what it makes; the paper does not say which text it gives.
        """
        captions = self.pairs.record(self.sample).get("captions") or {}
        return str(captions.get("target") or self.sample.instruction)

    def shown(self) -> dict[str, Frames]:
        """Return source, edited first frame as a still, and target."""
        first = self.first_frame()
        still = np.broadcast_to(first, (self.frames, *first.shape))
        return {"source": self.source(), "edited first frame": still, "target": self.target()}

    def record(self) -> dict[str, str]:
        """Return what the lineage records of it."""
        return {"item_id": self.sample.key, "task": self.sample.task}


def choose(pairs: IndexedPairs, data: DataSettings, frames: int) -> tuple[PropagationSample, ...]:
    """Return the samples of an export that the settings ask for, in its order.

    Raises:
        ConfigError: a clip is shorter than `frames`, or its size does not suit the model.
    """
    found = []
    checked: set[tuple[int, int]] = set()
    for row in pairs.samples:
        if data.tasks and row.task not in data.tasks:
            continue
        if data.min_score > 0 and (row.score is None or row.score < data.min_score):
            continue
        if row.frames < frames:
            raise ConfigError(
                f"{row.key} has {row.frames} frames and model.frames is {frames}: set fewer, or export longer clips"
            )
        if (row.width, row.height) not in checked:
            check_clip(frames, row.height, row.width, model=row.key)
            checked.add((row.width, row.height))
        found.append(PropagationSample(pairs, row, frames))
    return tuple(found)


def check_tasks(pairs: IndexedPairs, tasks: Sequence[str]) -> None:
    """Raise ConfigError for a task that no pair of the export has."""
    there = {row.task for row in pairs.samples}
    if missing := sorted(set(tasks) - there):
        raise ConfigError(f"data.tasks: no pair is a {shown(missing[0])}: the export has {', '.join(sorted(there))}")
