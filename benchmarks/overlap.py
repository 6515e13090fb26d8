"""How busy a GPU worker keeps its card, where every clip is decoded before and encoded after 2 seconds of the card.

    python -m benchmarks.overlap [--clips 24] [--seconds 2] [--kinds edit masks] [--encoder fast]
                                 [--overlap 6] [--rounds 1] [--keep]

The card is one that only Ray believes in: the stage sleeps while it has it. An edit reads and writes a clip, `masks`
reads a clip and writes masks. Both are run by workers that take one item after another (`resources.overlap=1`) and by
workers that decode the next items and encode the last ones meanwhile. Busy is the sum of the seconds at the card, over
the time from the first item's start at it to the last one's end. What the cores can do bounds it too: `cores allow`
says how far, by the CPU seconds of an item alone. The bound is for an idle machine; other work on it takes the cores.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import numpy as np
import ray
from numpy.typing import NDArray

from benchmarks.timing import add_size, verdict
from ffpdata.core.stage import Artifact, Item, Resources, Row, Stage, StageSettings
from ffpdata.manifests.manifest import ManifestWriter
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import connect, records
from ffpdata.media.codec import read_video, write_masks, write_video
from ffpdata.media.encoders import DEFAULT, Encoder
from ffpdata.processes.ray_cluster import loopback_only
from ffpdata.runners.interrupts import Stop
from ffpdata.runners.progress import Progress
from ffpdata.runners.ray import run_ray
from ffpdata.runners.session import make_flow

T = TypeVar("T")

BUSY = 0.95
BEFORE, AFTER = 1, Resources().overlap
FPS = 16.0


class CardSettings(StageSettings):
    """Of the simulated card."""

    seconds: float = 2.0
    encoder: Encoder = DEFAULT


class OnCard(Stage):
    """Keeps the card for a while, and notes from when to when."""

    version = 1
    reads = ("source_video", "number")
    Settings = CardSettings

    def compute(self, answer: Callable[[], T]) -> tuple[T, list[float]]:
        """Return the answer after the seconds of the card, and when it began and ended, Unix seconds."""
        began = time.time()
        given = answer()
        time.sleep(max(0.0, began + self.settings.seconds - time.time()))
        return given, [began, time.time()]


class Edit(OnCard):
    """Writes the clip again, as an edit of it."""

    name = "edit"
    writes = {"target_video": Artifact("mp4"), "span": list[float]}

    def process(self, row: Row) -> Mapping[str, Any]:  # noqa: D102
        frames = read_video(row.file("source_video"))
        edited, span = self.compute(lambda: frames)
        target = row.new_file("target_video")
        write_video(target, edited, FPS, encoder=self.settings.encoder)
        return {"target_video": target, "span": span}


class Masks(OnCard):
    """Writes the masks of a disk that moves."""

    name = "masks"
    writes = {"mask_video": Artifact("mp4"), "span": list[float]}

    def process(self, row: Row) -> Mapping[str, Any]:  # noqa: D102
        frames = read_video(row.file("source_video"))
        masks, span = self.compute(lambda: disk(*frames.shape[:3]))
        target = row.new_file("mask_video")
        write_masks(target, masks, FPS)
        return {"mask_video": target, "span": span}


KINDS: dict[str, type[OnCard]] = {"edit": Edit, "masks": Masks}


class Measured(NamedTuple):
    """Of one run: the share of time that the card was busy, CPU seconds and seconds of an item, and its artifacts."""

    busy: float
    cpu: float
    own: float
    artifacts: list[str]


def scene(path: Path, width: int, height: int, frames: int) -> None:
    """Write a clip of a textured scene that moves, with some grain: it costs the encoder what a filmed one does."""
    rng = np.random.default_rng(0)
    wall = rng.integers(40, 215, (height // 4 + 32, width // 4 + 96, 3)).astype(np.float32)
    large = np.kron(wall, np.ones((4, 4, 1), np.float32))
    for axis in (0, 1):
        large = sum(np.roll(large, shift, axis) for shift in range(-3, 4)) / 7
    moved = [large[t : t + height, 2 * t : 2 * t + width] for t in range(frames)]
    grain = rng.normal(0, 2, (8, height, width, 1)).astype(np.float32)
    clip = np.stack([np.clip(f + grain[t % 8], 0, 255).astype(np.uint8) for t, f in enumerate(moved)])
    write_video(path, clip, FPS)


def disk(frames: int, height: int, width: int) -> NDArray[np.bool_]:
    """Masks of a disk that moves, bool (T, H, W)."""
    y, x = np.ogrid[:height, :width]
    centres = np.linspace(width / 4, width * 3 / 4, frames)
    return np.stack([(x - centre) ** 2 + (y - height / 2) ** 2 < (height / 5) ** 2 for centre in centres])


def measure(kind: str, clip: Path, count: int, overlap: int, settings: Mapping[str, Any]) -> Measured:
    """Run `count` items through one stage on one card."""
    stage = KINDS[kind](**settings)
    stage.resources = Resources(gpus=1, overlap=overlap)
    with tempfile.TemporaryDirectory(dir=clip.parent) as folder:
        run = RunFolder(folder)
        (Path(folder) / "clip.mp4").hardlink_to(clip)
        items = [Item(f"item-{i}", {"source_video": "clip.mp4", "number": i}) for i in range(count)]
        with ManifestWriter(run.manifest) as writer, Progress(run.store, quiet=True) as progress, Stop() as stop:
            run_ray(make_flow([stage], items, writer, progress, track="t"), run.store, stop)
        sql = f"select span, artifacts, cpu_seconds, seconds from {kind} where status = 'ok' order by item_id"
        found = records(connect(run.store, {"t": [kind]}), sql)
    assert len(found) == count, f"{count - len(found)} items did not end as ok"
    spans = sorted(row["span"] for row in found)
    whole = spans[-1][1] - spans[0][0]
    return Measured(
        sum(end - begin for begin, end in spans) / whole,
        statistics.mean(row["cpu_seconds"] for row in found),
        statistics.mean(row["seconds"] for row in found),
        [row["artifacts"] for row in found],
    )


def main() -> None:
    """Print the busy share of each kind before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size(parser)
    parser.add_argument("--clips", type=int, default=24, help="items of a run")
    parser.add_argument("--seconds", type=float, default=2.0, help="of the card per item")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--encoder", choices=get_args(Encoder), default=DEFAULT, help="of edits")
    parser.add_argument("--overlap", type=int, default=AFTER, help="items in hand at most")
    parser.add_argument("--rounds", type=int, default=1, help="interleaved; medians count")
    given = parser.parse_args()
    with loopback_only():
        ray.init("local", num_gpus=1, logging_level=logging.ERROR, include_dashboard=False, log_to_driver=False)
    settings = {"seconds": given.seconds, "encoder": given.encoder}
    cores, good = len(os.sched_getaffinity(0)), True
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        scene(clip, given.width, given.height, given.frames)
        for kind in given.kinds:
            runs: dict[int, list[Measured]] = {BEFORE: [], given.overlap: []}
            for _ in range(given.rounds):
                for overlap, measured in runs.items():
                    measured.append(measure(kind, clip, given.clips, overlap, settings))
            before, after = ([m.busy for m in runs[overlap]] for overlap in (BEFORE, given.overlap))
            one = runs[BEFORE][0]
            assert all(m.artifacts == one.artifacts for many in runs.values() for m in many), "the files differ"
            allowed = min(1.0, cores * given.seconds / max(one.cpu, 1e-9))
            print(
                f"{kind}, {given.encoder}: an item alone takes {one.own:.2f} s, {one.cpu:.2f} CPU s of it; one after "
                f"another busy {statistics.median(before):.3f}; {cores} cores allow {allowed:.2f}; "
                f"load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
            busy = statistics.median(after)
            good &= verdict(f"{kind}, bound / busy share", BUSY / busy, 1.0, f"busy {busy:.3f} with overlap")
    ray.shutdown()
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
