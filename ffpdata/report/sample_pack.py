"""A random uncurated sample of a run's pairs, accepted and rejected alike, as contact sheets on one page.

What a gallery of the best shows is not what a dataset is like: here chance alone chooses, by a seed, so that anybody
who has the run draws the same pairs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata import __version__
from ffpdata.core.errors import FatalError, FfpdataError
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.tombstones import TAKEN_DOWN
from ffpdata.manifests.views import IS_PAIR, PAIR, records
from ffpdata.media.codec import read_masks, read_video
from ffpdata.report.gallery_media import local_files
from ffpdata.report.page import render, status_of
from ffpdata.storage.store import Store, storage_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

PAGE, LIST, SHEETS = "index.html", "pairs.json", "sheets"
COLUMNS = 5
"""Frames of a clip on its sheet, evenly from the first to the last."""
CELL_WIDTH = 256
"""Pixels of one frame."""
GAP = 4
JPEG_QUALITY = 85
OUTLINE = (255, 64, 64)
"""Colour of the object's outline in the source's row, RGB."""
TOLD = ("item_id", "track", "task", "status", "reason", "error", "score", "instruction", "source_id", "licence")


@dataclass(frozen=True)
class SamplePack:
    """What was written: the page, how many pairs it shows, how many of these are accepted, and of how many it drew."""

    page: Path
    pairs: int
    accepted: int
    total: int


def write_sample_pack(run: RunFolder, out: Path, count: int, seed: int = 0) -> SamplePack:
    """Write the pack: `index.html`, `pairs.json` and `sheets/000.jpg`, ...

    Args:
        run: a run that was started.
        out: folder, new, empty, or an earlier pack, which is replaced.
        count: how many pairs at most, at least 1.
        seed: the same one draws the same pairs of the same run.

    Raises:
        FatalError: the run has no pair, accepted or rejected, or `out` holds something else.
    """
    if not run.tracks():
        raise FatalError(f"{run.store.root}: nothing to draw from, no pipeline was started in it")
    with run.reading() as connection:
        if not set(PAIR) <= set(connection.view("items").columns):
            raise FatalError(f"{run.store.root} has no pairs: no stage of it writes {' and '.join(PAIR)}")
        where = f"from items where {IS_PAIR} and coalesce(reason, '') <> '{TAKEN_DOWN}'"
        total = int(records(connection, f"select count(*) as n {where}")[0]["n"])
        if not total:
            raise FatalError(f"{run.store.root} has no pair yet, accepted or rejected: let `ffpdata run` go on first")
        order = f"md5('{seed:d}|' || track || '|' || item_id), track, item_id"
        drawn = records(connection, f"select * {where} order by {order} limit {max(1, count):d}")
    _clear(out)
    with ThreadPoolExecutor(2) as pool:  # each holds two decoded clips
        entries = list(pool.map(partial(_entry, run.store, out), range(len(drawn)), drawn))
    states = Counter(entry["status"] for entry in entries)
    page = render(
        "sample.html.j2",
        entries=entries,
        states=states,
        total=total,
        seed=seed,
        version=__version__,
        run=run.store.root,
    )
    with storage_errors(str(out)):
        (out / LIST).write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (out / PAGE).write_text(page, encoding="utf-8")
    return SamplePack(out / PAGE, len(entries), states["accepted"], total)


def contact_sheet(source: Image, target: Image, masks: NDArray[np.bool_] | None = None) -> Image:
    """Return some frames of a pair, the source above the target, uint8 RGB.

    Args:
        source: uint8 (T, H, W, 3).
        target: uint8 (T, H, W, 3).
        masks: bool (T, H, W), the object, which is outlined in the source.
    """
    rows = []
    for clip, outlines in ((source, masks), (target, None)):
        chosen = np.linspace(0, len(clip) - 1, COLUMNS).round().astype(int)
        rows.append([_cell(clip[t], None if outlines is None or t >= len(outlines) else outlines[t]) for t in chosen])
    height = max(cell.shape[0] for row in rows for cell in row)
    sheet = np.full((2 * height + GAP, COLUMNS * (CELL_WIDTH + GAP) - GAP, 3), 255, np.uint8)
    for place, row in enumerate(rows):
        for column, cell in enumerate(row):
            top, left = place * (height + GAP), column * (CELL_WIDTH + GAP)
            sheet[top : top + cell.shape[0], left : left + CELL_WIDTH] = cell
    return sheet


def _cell(frame: Image, mask: NDArray[np.bool_] | None) -> Image:
    height = max(1, round(frame.shape[0] * CELL_WIDTH / frame.shape[1]))
    small: Image = np.ascontiguousarray(cv2.resize(frame, (CELL_WIDTH, height), interpolation=cv2.INTER_AREA), np.uint8)
    if mask is not None and mask.any():
        shrunk = cv2.resize(mask.astype(np.uint8), (CELL_WIDTH, height), interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(shrunk, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(small, contours, -1, OUTLINE, 1)
    return small


def _entry(store: Store, out: Path, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Write the sheet of a pair and return what the page tells of it."""
    told: dict[str, Any] = {name: row.get(name) for name in TOLD}
    told["status"] = status_of(row)
    columns = ["source_video", "target_video", *(["mask_video"] if row.get("mask_video") else [])]
    try:
        with local_files(store, [row[column] for column in columns]) as files:
            clips = [read_video(file) for file in files[:2]]
            sheet = contact_sheet(clips[0], clips[1], read_masks(files[2]) if len(files) > 2 else None)
    except FatalError:
        raise
    except (FfpdataError, FileNotFoundError) as err:
        return told | {"sheet": "", "unreadable": str(err)}
    name = f"{SHEETS}/{number:03d}.jpg"
    _, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    with storage_errors(str(out)):
        (out / name).write_bytes(data.tobytes())
    return told | {"sheet": name}


def _clear(out: Path) -> None:
    """Make the folder, or empty that of an earlier pack; raises FatalError where it holds something else."""
    if out.exists() and not out.is_dir():
        raise FatalError(f"{out} is a file: name a folder for the sample")
    there = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if there and not {PAGE, LIST, SHEETS} >= set(there):
        raise FatalError(f"{out} is not empty and no sample (it holds {', '.join(there[:3])}): name another folder")
    with storage_errors(str(out)):
        (out / SHEETS).mkdir(parents=True, exist_ok=True)
        for path in (out / SHEETS).glob("*.jpg"):
            path.unlink()
