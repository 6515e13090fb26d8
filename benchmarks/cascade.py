"""Drafts before full edits: are the accepted pairs the same, and is the time that the report says was saved true?

    python -m benchmarks.cascade [--clips 20] [--width 1280] [--height 720] [--frames 33] [--audit 0.3]

Scenes of known masks go from `condition` to `measure` by the models of profile `cpu`, for which removals of things that
move too little and edits of low contrast fail. Two starts of one run: with a share of the rejected drafts audited, then
with all of them, which makes every edit in full, as without drafts. CPU seconds are those of the rows, so that a busy
machine hardly matters. What the report says after the first start is held against the second.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.timing import verdict
from ffpdata.core.config import load_pipeline
from ffpdata.core.pipeline import Pipeline
from ffpdata.core.stage import Artifact, Child, Row, Stage
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.codec import write_masks, write_video
from ffpdata.report.cascade import cascade
from ffpdata.report.costs import rates_of
from ffpdata.runners.session import StartOptions, start
from ffpdata.stages.propose import EditPlan

FPS = 16.0
SAME, FALSE = 0.05, 0.35
"""Largest part of the accepted pairs that may differ; of the seconds that are said to be saved."""
SPEEDS = (1.5, 3.0, 5.0, 8.0, 11.0)
"""Of the things, pixels a frame of 640 columns: the slow ones uncover too little of what is behind them."""


class Scene(Stage):
    """A textured disc that crosses a textured ground, drawn by the number in its file: source and true masks."""

    name, version = "scene", 1
    reads, uses = ("path",), ("root",)
    writes: Mapping[str, Any] = {
        "source_video": Artifact("mp4"),
        "mask_video": Artifact("mp4"),
        "width": int,
        "height": int,
        "frames": int,
        "fps": float,
        "caption": str,
        "object": str,
    }
    fan_out = True

    def expand(self, row: Row) -> list[Child]:  # noqa: D102
        seed, width, height, count = map(int, row.input(row["path"]).read_text().split())
        frames, masks = draw(seed, width, height, count)
        name = f"scene-{seed:03d}"
        source, outline = row.new_file("source_video", name), row.new_file("mask_video", name)
        write_video(source, frames, FPS)
        write_masks(outline, masks, FPS)
        columns = {"source_video": source, "mask_video": outline, "width": width, "height": height, "frames": count}
        return [Child(name, {**columns, "fps": FPS, "caption": "A disc.", "object": "disc"}, source_id=name)]


def draw(seed: int, width: int, height: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a scene: uint8 (T, H, W, 3) and bool (T, H, W)."""
    rng, unit = np.random.default_rng(seed), width / 640
    small = rng.integers(20, 230, (8 + seed % 20, 28 + seed % 40, 3), dtype=np.uint8)
    wide = cv2.resize(small, (2 * width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    wide = np.clip(wide + rng.normal(0, 4, wide.shape), 0, 255).astype(np.uint8)
    side, speed, pan = int(unit * rng.integers(50, 130)), SPEEDS[seed % len(SPEEDS)] * unit, (seed % 3) * unit
    skin = cv2.resize(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
    y, x = np.mgrid[:side, :side]
    disc = (y - side / 2) ** 2 + (x - side / 2) ** 2 < (side / 2) ** 2
    left, top = unit * rng.integers(10, 100), int(rng.integers(4, max(5, height - side - 4)))
    frames, masks = np.zeros((count, height, width, 3), np.uint8), np.zeros((count, height, width), bool)
    for t in range(count):
        at = int(min(left + speed * t, width - side - 2))
        frames[t] = wide[:, int(pan * t) : int(pan * t) + width]
        frames[t, top : top + side, at : at + side][disc] = skin[disc]
        masks[t, top : top + side, at : at + side] = disc
    return frames, masks


def pipeline_of(audit: float, draft: tuple[int, int]) -> Pipeline:
    """From the true masks to the metrics, by profile `cpu` and drafts of this size."""
    usual = {entry.name: entry.settings for entry in load_pipeline("local_editing", "cpu,drafts").stages}
    edits = [EditPlan(task=task, variant="mask").model_dump() for task in ("removal", "swap")]
    stages: list[Any] = [Scene, ("propose", {"edits": edits}), ("condition", usual["condition"])]
    stages += [("draft", {"width": draft[0], "height": draft[1]})]
    stages += [("draft_check", usual["draft_check"] | {"audit": audit})]
    stages += ["synthesize", ("measure", usual["measure"])]
    return Pipeline.of(stages, name="cascade", profile="cpu,drafts", curate={"variants": "all"})


def accepted(run: RunFolder) -> set[str]:
    """Items that became pairs."""
    with run.reading() as connection:
        found = connection.execute("select item_id from items where status = 'ok'").fetchall()
    return {item for (item,) in found}


def main() -> None:
    """Print what drafts saved and lost, as the report says and in truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--draft", type=int, nargs=2, default=[320, 180], help="width and height of a draft")
    parser.add_argument("--audit", type=float, default=0.3)
    parser.add_argument("--run", type=Path, help="keep the run here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenes = Path(folder) / "scenes"
        scenes.mkdir()
        for seed in range(given.clips):
            scene = scenes / f"{seed:03d}.mp4"
            scene.write_text(f"{seed} {given.width} {given.height} {given.frames}")
        run = RunFolder(given.run or Path(folder) / "run")
        found, pairs = {}, {}
        for audit in (given.audit, 1.0):
            pipeline = pipeline_of(audit, (given.draft[0], given.draft[1]))
            start(run, pipeline, str(scenes), StartOptions(quiet=True))
            pairs[audit] = accepted(run)
            names = [entry.name for entry in pipeline.stages]
            with run.reading() as connection:
                found[audit] = cascade(connection, "cascade", names, rates_of(pipeline))
        with run.reading() as connection:
            [(drafts, made)] = connection.execute("select count(distinct key), count(*) from draft_history").fetchall()
    truth, told = found[1.0], found[given.audit]
    if truth is None or told is None:
        raise SystemExit("no item came to its draft")
    print(f"{truth.drafts} drafts, {truth.faulty} with a fault: {truth.by_fault}; made anew: {made - drafts}")
    print(f"of the {truth.faulty} made in full all the same {truth.good} are good pairs")
    good = verdict(
        "accepted pairs that differ",
        len(pairs[1.0] ^ pairs[given.audit]) / max(1, len(pairs[1.0])),
        SAME,
        f"{len(pairs[1.0])} of all edits in full, {len(pairs[given.audit])} with drafts",
    )
    really = truth.unspent - told.unspent - told.spent
    said = f"{3600 * told.saved:.1f} s said, {3600 * really:.1f} s in truth, {told.audited} of {told.faulty} audited"
    off = abs(told.saved - really) / max(1e-9, abs(really))
    good &= verdict("CPU time saved: off by", off, FALSE, said)
    if told.saved_interval:
        low, high = (3600 * end for end in told.saved_interval)
        print(f"CPU time saved, interval: {low:.1f} to {high:.1f} s")
    low, high = told.lost_interval
    print(f"good pairs lost: {told.lost:.1f} said, {low:.1f} to {high:.1f}; in truth {truth.good - told.good}")
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
