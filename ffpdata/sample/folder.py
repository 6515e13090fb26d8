"""Write the sample folder. Two runs write the same bytes."""

from __future__ import annotations

import csv
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.core.errors import FatalError
from ffpdata.media.codec import write_image, write_masks, write_video
from ffpdata.media.geometry import Geometry
from ffpdata.sample import photos
from ffpdata.sample.scenes import SCENES, render
from ffpdata.sample.styles import STYLES

if TYPE_CHECKING:
    from collections.abc import Iterable

REAL_CLIPS = ("bikes", "bigbuckbunny")
CONTENT = ("chelsea", "coffee", "rocket")
"""Photographs that the stylization track animates and stylizes."""

CONTENT_CLIP = "bigbuckbunny"


def write_samples(folder: Path, *, geometry: Geometry | None = None, quick: bool = False) -> None:
    """Write clips, ground truth, content and style images, the input table, and all licences.

    Layout: `clips/*.mp4`; `clips.csv` (path, object, caption, licence, url) for `--input`;
    `truth/<scene>/background.mp4` (without object and grain) and `truth/<scene>/mask.mp4` (lossless);
    `content/` and `style/` for the stylization pipeline; `LICENCES.md`.

    Args:
        folder: created if missing; files of the same names are replaced.
        geometry: size, rate and length of the scenes; the default of `Geometry` where None.
        quick: leave `truth/` out.

    Raises:
        FatalError: a wheel with the photographs is missing, or the folder cannot be written.
    """
    geometry = geometry or Geometry()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for name in photos.ORIGINS:
            photos.locate(name)  # raises for a missing photograph before the first file is written
        for part in ("clips", "content", "style"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for name in REAL_CLIPS:
            _copy(name, folder / "clips")
        _write_scenes(folder, geometry, quick=quick)
        for name in CONTENT:
            write_image(folder / "content" / f"{name}.png", photos.photo(name))
        _copy(CONTENT_CLIP, folder / "content")
        for name, (paint, _) in STYLES.items():
            write_image(folder / "style" / f"{name}.png", paint())
        _write_table(folder / "clips.csv")
        (folder / "LICENCES.md").write_text(_licences(), encoding="utf-8")
    except OSError as err:
        raise FatalError(f"cannot write the sample folder {folder}: {err.strerror or err}") from err
    finally:
        cv2.setNumThreads(threads)


def _copy(name: str, folder: Path) -> None:
    source = photos.locate(name)
    shutil.copyfile(source, folder / source.name)


def _write_scenes(folder: Path, geometry: Geometry, *, quick: bool) -> None:
    """Write all scenes, one process per core, each on one thread, so that the bytes do not depend on the machine."""
    workers = min(4, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for written in [pool.submit(_write_scene, n, folder, geometry, quick=quick) for n in range(len(SCENES))]:
            written.result()


def _write_scene(number: int, folder: Path, geometry: Geometry, *, quick: bool) -> None:
    cv2.setNumThreads(1)
    scene = SCENES[number]
    shape = geometry.frames, geometry.height, geometry.width
    frames = np.empty((*shape, 3), np.uint8)
    backgrounds = None if quick else np.empty((*shape, 3), np.uint8)
    masks = np.empty(shape, np.bool_)
    for index, (frame, background, mask) in enumerate(render(scene, geometry)):
        frames[index], masks[index] = frame, mask
        if backgrounds is not None:
            backgrounds[index] = background
    write_video(folder / "clips" / f"{scene.name}.mp4", frames, geometry.fps)
    if backgrounds is None:
        return
    truth = folder / "truth" / scene.name
    truth.mkdir(parents=True, exist_ok=True)
    write_video(truth / "background.mp4", backgrounds, geometry.fps)
    write_masks(truth / "mask.mp4", masks, geometry.fps)


def _write_table(path: Path) -> None:
    """Write the input table; the pipeline fills its empty fields."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["path", "object", "caption", "licence", "url"])
        for name in REAL_CLIPS:
            origin = photos.ORIGINS[name]
            table.writerow([f"clips/{name}.mp4", "", "", origin.licence, origin.url])
        for scene in SCENES:
            licence, url = _derived(scene.sources)
            table.writerow(
                [
                    f"clips/{scene.name}.mp4",
                    scene.object_name if scene.user_names_object else "",
                    scene.caption,
                    licence,
                    url,
                ]
            )


def _derived(sources: Iterable[str]) -> tuple[str, str]:
    """Return licence and URL of a scene: those of its most restrictive source."""
    origins = [photos.ORIGINS[name] for name in sources]
    strict = next((o for o in origins if o.licence.startswith("CC-BY")), origins[0])
    return strict.licence, strict.url


def _licences() -> str:
    lines = [
        "# Where these files come from",
        "",
        "All is made from files that two Python packages carry; nothing was downloaded for it. Scenes and style images",
        "are derived works: what a source asks for (credit, for CC-BY) holds for them as well.",
        "",
        "## Sources",
        "",
        "| source | file | licence | credit | address |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {o.wheel}: {o.path} | {o.licence} | {o.credit} | {o.url} |" for name, o in photos.ORIGINS.items()
    ]
    lines += ["", "## What was made of them", "", "| file | sources |", "|---|---|"]
    lines += [f"| clips/{name}.mp4 | {name}, unchanged |" for name in REAL_CLIPS]
    lines += [f"| clips/{s.name}.mp4, truth/{s.name}/ | {', '.join(s.sources)} |" for s in SCENES]
    lines += [f"| content/{name}.png | {name}, unchanged |" for name in CONTENT]
    lines += [f"| content/{CONTENT_CLIP}.mp4 | {CONTENT_CLIP}, unchanged |"]
    lines += [f"| style/{name}.png | {', '.join(sources)}, repainted |" for name, (_, sources) in STYLES.items()]
    return "\n".join(lines) + "\n"
