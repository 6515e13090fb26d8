"""Defects injected into the accepted pairs of runs: how many are caught, and whether the score tells them from good pairs.

    python -m benchmarks.defects RUN [RUN ...] [--numbers FILE] [--pairs N] [--only KIND] [--fit OUT.json]

Every accepted pair is damaged in each way of `defect_kinds`, encoded again, and goes through the stages from `measure` on,
with the run's own pipeline and the pipelines' present limits. `--numbers` keeps what was measured, so that other limits or a
fit need no second pass. `--fit` writes the score's default (ffpdata/metrics/default_score.json).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.defect_kinds import HELD_OUT, KINDS, Example
from ffpdata.core.config import load_pipeline
from ffpdata.core.stage import Reject, Row, Stage
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.media.clip_cache import start_item
from ffpdata.media.codec import read_masks, read_video, write_masks, write_video
from ffpdata.metrics.words import agreement, seen_colours

CLEAN, RECODED = "clean", "recoded"
"""The pair as it is, and with a target that was encoded once more, as every damaged one is: both are good."""
BOUNDS = {"caught": 0.90, "rejected": 0.05, "auc": 0.95}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--numbers", type=Path, help="JSON lines of what was measured: read, and added to")
    parser.add_argument("--pairs", type=int, default=0, help="at most so many pairs of a run")
    parser.add_argument("--only", default="", help="kinds of defects, with commas between")
    parser.add_argument("--part", type=int, default=1, help="every so many-th defect of a pair, in turn over the pairs")
    parser.add_argument("--fit", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    known = _read(args.numbers)
    done = {(r["run"], r["item_id"], r["kind"], r["strength"]) for r in known}
    for run in args.runs:
        for row in _measured(run, args, done):
            known.append(row)
            if args.numbers:
                with args.numbers.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
    return 0


def _measured(run: Path, args: argparse.Namespace, done: set[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    only = set(filter(None, args.only.split(",")))
    kinds = {name: kind for name, kind in (KINDS | HELD_OUT).items() if not only or name in only}
    for track, columns, stages in pairs(run, args.pairs):
        example = _load(run, columns)
        jobs = [(CLEAN, 0), (RECODED, 0)] + [(kind, strength) for kind in kinds for strength in (0, 1)]
        turn = int(columns["item_id"][:4], 16)
        for number, (kind, strength) in enumerate(jobs):
            if number > 1 and (number + turn) % args.part:
                continue
            key = {"run": str(run), "item_id": columns["item_id"], "kind": kind, "strength": strength}
            damaged = example if kind in {CLEAN, RECODED} else kinds[kind](example, strength)
            if damaged is None or tuple(key.values()) in done:
                continue
            yield (
                key
                | {"track": track, "task": columns["task"], "source_id": columns["source_id"]}
                | through(stages, damaged, run)
            )


def pairs(run: Path, most: int = 0) -> list[tuple[str, dict[str, Any], list[Stage]]]:
    """Return track, columns and stages of the accepted pairs of a run."""
    folder = RunFolder.existing(run)
    found = []
    for track, pipeline in folder.pipelines().items():
        stages = [s for s in load_pipeline(pipeline.name, pipeline.profile).build()]
        rows = records(
            folder.connect(), f"select * from items where status = 'ok' and track = '{track}' order by item_id"
        )
        for row in rows[: most or None]:
            row = {k: json.loads(v) if k.endswith("_facts") and isinstance(v, str) else v for k, v in row.items()}
            found.append((track, {k: v for k, v in row.items() if v is not None}, stages))
    return found


def _load(run: Path, columns: Mapping[str, Any]) -> Example:
    masks = [read_masks(run / columns[n]) if columns.get(n) else None for n in ("mask_video", "condition_mask")]
    clips = [read_video(run / columns[n]) for n in ("source_video", "target_video")]
    return Example(clips[0], clips[1], masks[0], masks[1], dict(columns))


def through(stages: list[Stage], example: Example, run: Path, *, recode: bool = True) -> dict[str, Any]:
    """Send a pair through the stages that judge pairs; return their numbers, and what each would have said."""
    numbers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        values = dict(example.columns)
        for name in ("source_video", "target_video", "mask_video", "condition_mask", "reference_image"):
            if values.get(name):
                values[name] = str(run / values[name])
        written = {"target_video": example.target, "mask_video": example.outline, "condition_mask": example.region}
        for name, array in written.items():
            if array is not None and recode:
                values[name] = str(Path(folder) / f"{name}.mp4")
                write = write_video if array.ndim == 4 else write_masks
                write(Path(values[name]), array, float(values.get("fps") or 16))
        start_item("x")
        outcome: dict[str, Any] = {}
        for stage in stages:
            if stage.name in {"measure", "screen", "verify"} and stage.applies(values):
                open_ = stage.settings.model_copy(
                    update={"limits": {}} if stage.name == "measure" else {"min_score": -1.0}
                )
                stage.settings, kept = open_, stage.settings
                seen = {n: values[n] for n in (*stage.reads, *stage.uses) if values.get(n) is not None}
                row = Row(seen, item_id="x")
                try:
                    answer = dict(stage.process(row))
                except Reject as err:
                    answer = dict(err.facts or {})
                    outcome[stage.name] = err.reason
                stage.settings = kept
                values |= answer
                numbers |= {k: v for k, v in answer.items() if isinstance(v, (int, float))}
        seen_of = seen_colours(
            example.source, read_video(Path(values["target_video"])), example.outline, _reference(values)
        )
        numbers |= agreement(values, seen_of)
        numbers |= {k: v for k, v in (values.get("edit_facts") or {}).items() if isinstance(v, (int, float))}
        start_item("")
    return {"numbers": numbers, "said": outcome}


def _reference(values: Mapping[str, Any]) -> np.ndarray | None:
    from ffpdata.media.codec import read_image

    return read_image(Path(values["reference_image"])) if values.get("reference_image") else None


def _read(path: Path | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
