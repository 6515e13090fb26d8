"""Accepted pairs of a run, damaged and sent through the stages that judge pairs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.defect_kinds import Example
from ffpdata.core.config import Pipeline
from ffpdata.core.stage import Reject, Row, Stage
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.media.clip_cache import start_item
from ffpdata.media.codec import read_image, read_masks, read_video, write_image, write_masks, write_video

FILES = ("source_video", "target_video", "mask_video", "condition_mask", "reference_image")
COMPUTED, ASKED = ("measure", "grade"), ("screen", "verify")
"""Stages that judge pairs: those that compute, and those that ask the vision-language model."""
OPEN = {"measure": {"limits": {}}, "grade": {"limits": {}, "min_score": -1.0}, "screen": {"min_score": -1.0}}
OPEN["verify"] = OPEN["screen"]
"""Settings under which a stage rejects nothing by a number."""


@dataclass
class AcceptedPair:
    """One accepted pair of a run, with the stages of its pipeline as it is now.

    Attributes:
        run: the run folder.
        columns: of the view `items`, without empty ones.
        stages: those that judge pairs, which reject nothing by a number.
        example: its clips and masks.
    """

    run: Path
    columns: dict[str, Any]
    stages: list[Stage]
    example: Example

    @property
    def name(self) -> str:
        """Id of its item."""
        return str(self.columns["item_id"])

    def judged(self, damaged: Example, *, encode: bool = True) -> dict[str, Any]:
        """Return the numbers of every stage, and under `said` what a stage rejected for another reason.

        Args:
            damaged: the pair; what is the pair's own array is not written again.
            encode: write the target again though it is the pair's own.
        """
        numbers: dict[str, Any] = {}
        said: dict[str, str] = {}
        with tempfile.TemporaryDirectory() as folder:
            values = dict(damaged.columns) | {n: str(self.run / self.columns[n]) for n in FILES if n in self.columns}
            values |= self._written(Path(folder), damaged, encode=encode)
            start_item("pair")
            for stage in self.stages:
                if not stage.applies(values):
                    continue
                seen = {n: values[n] for n in (*stage.reads, *stage.uses) if values.get(n) is not None}
                try:
                    answer = dict(stage.process(Row(seen, item_id="pair")))
                except Reject as err:
                    answer, said[stage.name] = dict(err.facts or {}), err.reason
                values |= answer
                numbers |= {k: v for k, v in answer.items() if isinstance(v, (int, float))}
            start_item("")
        facts = values.get("edit_facts") or {}
        return {"numbers": {k: v for k, v in facts.items() if isinstance(v, (int, float))} | numbers, "said": said}

    def _written(self, folder: Path, damaged: Example, *, encode: bool) -> dict[str, str]:
        fps, own = float(self.columns.get("fps") or 16), self.example
        found = {}
        if damaged.target is not own.target or encode:
            found["target_video"] = str(folder / "target.mp4")
            write_video(folder / "target.mp4", damaged.target, fps)
        for name, masks, before in (
            ("mask_video", damaged.outline, own.outline),
            ("condition_mask", damaged.region, own.region),
        ):
            if masks is not None and masks is not before:
                found[name] = str(folder / f"{name}.mp4")
                write_masks(folder / f"{name}.mp4", masks, fps)
        if damaged.reference is not None and damaged.reference is not own.reference:
            found["reference_image"] = str(folder / "reference.png")
            write_image(folder / "reference.png", damaged.reference)
        return found


def accepted_pairs(run: Path, *, judge: bool, most: int = 0) -> list[AcceptedPair]:
    """Return the accepted pairs of a run, in order of their ids; their clips are in memory.

    Args:
        run: the run folder.
        judge: whether the vision-language model is asked, too.
        most: at most so many; 0 for all.
    """
    folder = RunFolder.existing(run)
    found = []
    for track, pipeline in folder.pipelines().items():
        stages = open_stages(pipeline, (*COMPUTED, *ASKED) if judge else COMPUTED)
        where = f"status = 'ok' and track = '{track}'"
        for row in records(folder.connect(), f"select * from items where {where} order by item_id")[: most or None]:
            columns = {k: json.loads(v) if k == "edit_facts" else v for k, v in row.items() if v is not None}
            found.append(AcceptedPair(run, columns, stages, _example(run, columns)))
    return found


def open_stages(pipeline: Pipeline, names: Sequence[str]) -> list[Stage]:
    """Return stages of a pipeline under settings by which they reject nothing by a number."""
    stages = [stage for stage in pipeline.build() if stage.name in names]
    for stage in stages:
        stage.settings = stage.settings.model_copy(update=OPEN[stage.name])
    return stages


def _example(run: Path, columns: Mapping[str, Any]) -> Example:
    outline, region = (
        read_masks(run / columns[name]) if columns.get(name) else None for name in ("mask_video", "condition_mask")
    )
    source, target = (read_video(run / columns[name]) for name in ("source_video", "target_video"))
    reference = read_image(run / columns["reference_image"]) if columns.get("reference_image") else None
    return Example(source, target, outline, region, dict(columns), reference)
