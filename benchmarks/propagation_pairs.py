"""The pairs of `benchmarks.propagation`: scenes, runs of ffpdata on them, and what comes out of the exports."""

from __future__ import annotations

import csv
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffpdata.core.keys import SOURCE_CHARS
from ffpdata.export.loader import pairs
from ffpdata.media.codec import write_video
from ffpdata.media.geometry import Geometry
from ffpdata.sample import actors, scenes, write_samples
from ffpdata.sample.photos import clip_frame, enlarge, photo
from ffpdata.storage.digests import file_facts

CLIP = Geometry(width=160, height=96, fps=16, frames=33)
"""Of the runs."""
HELD_OUT = ("crate_static", "coin_pan", "cup_handheld")
"""One scene of each kind of camera. Neither their backgrounds nor their objects are in any other scene."""
VALIDATION = ("motorcycle_pan",)
"""On which the settings of the benchmark were chosen; learned from in its own runs."""
MORE, MORE_SEED = 12, 3
"""Further scenes to learn from, and the seed that they are drawn from."""


@dataclass(frozen=True)
class Clip:
    """A pair of an export.

    Attributes:
        scene: name of its source clip.
        task: of the edit.
        source: uint8 (T, H, W, 3).
        target: likewise.
    """

    scene: str
    task: str
    source: np.ndarray
    target: np.ndarray


def make_pairs(folder: Path, frames: int, limit: int, more: int = MORE) -> None:
    """Run both tracks on the sample scenes and on further ones, and export them.

    Args:
        folder: for samples, runs and exports; what is there already is not made again.
        frames: of a clip.
        limit: clips of each track.
        more: further scenes.
    """
    sample, styled = folder / "sample", folder / "styled"
    if not sample.is_dir():
        geometry = Geometry(width=CLIP.width, height=CLIP.height, fps=CLIP.fps, frames=frames)
        write_samples(sample, geometry=geometry, quick=True)
        _write_more(sample, geometry, more)
        shutil.copytree(sample / "style", styled / "style")
        shutil.copytree(sample / "clips", styled / "content")
    size = f"clip={{width: {CLIP.width}, height: {CLIP.height}, fps: {CLIP.fps}, frames: {frames}}}"
    tracks = {
        "local_editing": (sample / "clips.csv", []),
        "stylization": (styled, ["--set", "references.most=4", "--set", "curate.variants=all"]),
    }
    for track, (given, options) in tracks.items():
        run = folder / "runs" / track
        _ffpdata(
            *("run", track, "--profile", "cpu", "--input", given, "--run", run, "--limit", limit, "--quiet"),
            *("--set", size, "--set", "ingest.min_side=64", *options),
        )
        _ffpdata("export", run, folder / "exports" / track)


def _ffpdata(*arguments: Any) -> None:
    subprocess.run([sys.executable, "-m", "ffpdata", *map(str, arguments)], check=True, stdout=sys.stderr)


def read_pairs(exports: list[Path], samples: Path) -> list[Clip]:
    """Read the pairs of exports, each with the name of its scene, or the hash of its source where that is another."""
    files = sorted((samples / "clips").glob("*.mp4"))
    names = {file_facts(path)["sha256"][:SOURCE_CHARS]: path.stem for path in files}
    return [
        Clip(names.get(pair["source_id"], pair["source_id"]), pair["task"], pair["source"], pair["target"])
        for out in exports
        for pair in pairs(out)
    ]


def held_out(clips: list[Clip]) -> list[str]:
    """Return the scenes that are held out; of other clips than the sample's every third."""
    found = sorted({clip.scene for clip in clips})
    return [scene for scene in found if scene in HELD_OUT] or found[::3]


# --- further scenes ---


def _fur() -> scenes.Image:
    return enlarge(photo("chelsea"), 1740)


def _retina() -> scenes.Image:
    return enlarge(photo("retina")[200:1100, 100:1300], 1740)


def _forest() -> scenes.Image:
    return enlarge(clip_frame("bigbuckbunny", 100), 1740)


WORLDS = (scenes._meadow, scenes._street, scenes._launchpad, _fur, _retina, _forest)
"""Backgrounds of the scenes that are learned from, and three more photographs."""
ACTORS = {"ball": actors.ball, "motorcycle": actors.motorcycle, "astronaut": actors.astronaut}
"""Objects of the scenes that are learned from."""


def more_scenes(count: int) -> Iterator[scenes.Scene]:
    """Compose scenes of the backgrounds and objects that are learned from, with cameras and paths of their own."""
    rng = np.random.default_rng(MORE_SEED)
    names = list(ACTORS)
    for number in range(count):
        name, kind = names[(number // 2 + number) % len(names)], ("pan", "handheld", "pan", "static")[number % 4]
        yield scenes.Scene(
            *(f"more_{number:02d}_{name}_{kind}", kind, name, True, "", ("bikes",)),
            *(WORLDS[number % len(WORLDS)], _camera(kind, rng), ACTORS[name], _path(name, rng)),
        )


def _camera(kind: str, rng: np.random.Generator) -> scenes.Camera:
    x, y = rng.uniform(0, 100), rng.uniform(0, 60)
    if kind == "static":
        return scenes._static(x + 100, y)
    if kind == "handheld":
        return scenes._handheld(x + 100, y + 40, rng.uniform(0.8, 2.5))
    across = rng.uniform(150, 400) * rng.choice([-1, 1])
    x += 400 if across < 0 else 0
    return scenes._pan((x, y), (x + across, y + rng.uniform(-60, 120)))


def _path(name: str, rng: np.random.Generator) -> scenes.Path:
    start, end = rng.permutation([rng.uniform(150, 400), rng.uniform(800, 1250)])
    # A person from the chest up stands on the lower edge.
    height, rise = (648.0, 0.0) if name == "astronaut" else (rng.uniform(350, 600), rng.uniform(-120, 80))
    scale, nearer = rng.uniform(0.7, 1.1), rng.uniform(-0.15, 0.2)
    return lambda t: (start + (end - start) * t, height + rise * t + 8 * math.sin(11 * t), scale + nearer * t, 0.0)


def _write_more(folder: Path, geometry: Geometry, count: int) -> None:
    """Write further scenes beside the sample's, and their rows into its table."""
    with (folder / "clips.csv").open("a", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        for scene in more_scenes(count):
            frames = np.stack([frame for frame, _, _ in scenes.render(scene, geometry)])
            write_video(folder / "clips" / f"{scene.name}.mp4", frames, geometry.fps)
            table.writerow([f"clips/{scene.name}.mp4", scene.object_name, "", "CC-BY-3.0", ""])
