"""Which stages lack a part of their manifest, though its rows are counted on.

Each part names the part before it. That the newest part of a stage is gone no later one tells, so the rows of finished
inputs have a note of the newest parts there were. Only manifests that a run writes under its lock are held to this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ffpdata.manifests.manifest import INPUTS, NEWEST, Manifest
from ffpdata.manifests.part_files import PartName, after_gaps, read_part

GAPS = "gaps"
"""Note of a row without an item in `INPUTS`: per stage the numbers of the parts after a part that was known to be gone,
and whose inputs were all walked again since."""


class MissingParts:
    """Looks for parts that were deleted.

    Args:
        manifest: of the run.
        stages: names of the stages that are looked at, beside `INPUTS`.
    """

    def __init__(self, manifest: Manifest, stages: Sequence[str]) -> None:
        self._manifest, self._stages = manifest, list(dict.fromkeys([*stages, INPUTS]))

    def gaps(self) -> dict[str, list[int]]:
        """Per stage with missing parts, the numbers of the parts right after them."""
        return _gaps(self._listing())

    def stages(self, inputs: Sequence[str], known: Mapping[str, Any]) -> list[str]:
        """Stages that lack a part, sorted.

        Args:
            inputs: parts of the manifest `INPUTS`, oldest first.
            known: notes of the row since which finished inputs count: gaps of before it are mended.
        """
        listing, mended = self._listing(), known.get(GAPS, {})
        lost = {stage for stage, numbers in _gaps(listing).items() if set(numbers) - set(mended.get(stage, ()))}
        for stage, number in self._newest(inputs).items():
            if stage in listing and max((PartName.of(part).number for part in listing[stage]), default=0) < number:
                lost.add(stage)
        return sorted(lost)

    def _listing(self) -> dict[str, list[str]]:
        return {stage: self._manifest.parts(stage) for stage in self._stages}

    def since_last_start(self, inputs: Sequence[str]) -> list[str]:
        """As `stages`, since the newest start that walked every input."""
        for part in reversed(inputs):
            rows = read_part(self._manifest.store, part, ["item_id", "notes"])
            begun = rows.filter(rows["item_id"].is_null()).to_pylist()
            if begun:
                return self.stages(inputs, json.loads(begun[-1].get("notes") or "{}"))
        return self.stages(inputs, {})

    def _newest(self, inputs: Sequence[str]) -> dict[str, int]:
        """The newest part of each stage, as the newest row of a finished input says; nothing where none does."""
        for part in reversed(inputs):
            rows = read_part(self._manifest.store, part, ["item_id", "notes"]).to_pylist()
            told = [row.get("notes") for row in rows if row["item_id"] is not None]
            if told:
                return dict(json.loads(told[-1] or "{}").get(NEWEST, {}))
        return {}


def _gaps(listing: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    return {stage: numbers for stage, parts in listing.items() if (numbers := after_gaps(parts))}
