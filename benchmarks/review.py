"""The review page at work: decisions an hour, and how long the next pair takes to show on a slow line.

    python -m benchmarks.review [--decisions 20] [--megabytes 1.0] [--rate 1000] [--width 1280 --height 720 --frames 81]

720p clips of 81 frames, Chromium, a server of its own. First every pair is judged as soon as its video shows, while the
previews are made; then, with previews that are there and the line throttled by Chromium, at so many decisions an hour.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.timing import add_size, verdict
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.codec import write_masks, write_video
from ffpdata.review.pairs import ReviewPairs
from ffpdata.review.panel_video import POSTER, VIDEO, preview_name
from tests.chromium import CHROMIUM, wait_until
from tests.review.conftest import serving
from tests.review.many_pairs import make_pairs
from tests.review.test_page import reviewing, shown

FPS = 16.0
HOUR = 3600
RATE = 1000
SHOWN_SECONDS = 0.3
LATENCY_MS = 40
WARM_UP = 3
"""Decisions before the clock counts: the first pairs are loaded while somebody begins to look."""


def clips(folder: Path, width: int, height: int, frames: int) -> dict[str, Path]:
    """A pan over a textured scene, about as large as real footage, with a square that the target lacks."""
    rng = np.random.default_rng(0)
    coarse = cv2.resize(
        rng.integers(0, 255, (height // 8, 3 * width // 16, 3), dtype=np.uint8),
        (width * 2, height),
        interpolation=cv2.INTER_CUBIC,
    )
    fine = rng.integers(-12, 13, coarse.shape, dtype=np.int16)
    scene = np.clip(coarse + fine, 0, 255).astype(np.uint8)
    target = np.stack([scene[:, 3 * t : 3 * t + width] for t in range(frames)])
    masks = np.zeros(target.shape[:3], bool)
    unit = height / 720
    for t in range(frames):
        left = 100 + 8 * t
        masks[t, int(250 * unit) : int(470 * unit), int(left * unit) : int((left + 220) * unit)] = True
    source = target.copy()
    source[masks] = (230, 60, 40)
    files = {name: folder / f"{name}.mp4" for name in ("source", "target", "mask")}
    write_video(files["source"], source, FPS)
    write_video(files["target"], target, FPS)
    write_masks(files["mask"], masks, FPS)
    return files


def decide(page: Page) -> float:
    """Accept the pair on the screen, and return the seconds until the next one shows its video."""
    before = shown(page)
    begun = time.perf_counter()
    page.keyboard.press("a")
    wait_until(page, f"![undefined, {before!r}].includes(document.body.dataset.shown)")
    return time.perf_counter() - begun


def copy_previews(run: RunFolder) -> None:
    """Give every pair a preview: they all show the same, and encoding would keep this machine busy."""
    made = next((Path(run.store.root) / "review").rglob("*.mp4"))
    pairs = ReviewPairs(run)
    for pair in pairs.by_key.values():
        for kind in (POSTER, VIDEO):
            copy = run.store.local_path(f"{preview_name(pairs.files(pair))}.{kind}")
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists():
                shutil.copyfile(made.with_suffix(f".{kind}"), copy)


def throttle(page: Page, megabytes: float) -> None:
    """Give the page a line of so many megabytes a second."""
    line = {"offline": False, "latency": LATENCY_MS, "downloadThroughput": megabytes * 1e6, "uploadThroughput": 1e6}
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", line)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=20)
    parser.add_argument("--megabytes", type=float, default=1.0, help="a second, of the slow line")
    parser.add_argument("--rate", type=float, default=RATE, help="decisions an hour on the slow line")
    add_size(parser)
    args = parser.parse_args()
    if CHROMIUM is None:
        print("the page is not measured: no Chromium on this machine; apt-get install chromium")
        return 0
    with tempfile.TemporaryDirectory(prefix="ffpdata-bench-") as temp, sync_playwright() as playwright:
        folder = Path(temp)
        size = {"width": args.width, "height": args.height, "frames": args.frames}
        files = clips(folder, **size)
        run = make_pairs(folder / "run", 2 * (args.decisions + WARM_UP) + 16, files, size | {"fps": FPS})
        sizes = ", ".join(f"{name} {path.stat().st_size / 1e6:.2f} MB" for name, path in files.items())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        with serving(Path(run.store.root), "--overlap", "0") as server:
            page = reviewing(browser, server, "Ann", width=1600)
            page.wait_for_timeout(2000)
            begun = time.perf_counter()
            for _ in range(args.decisions):
                decide(page)
            rate = args.decisions * HOUR / (time.perf_counter() - begun)
            page.context.close()
            copy_previews(run)
            page = reviewing(browser, server, "Bob", width=1600)
            throttle(page, args.megabytes)
            waits = []
            for _ in range(args.decisions + WARM_UP):
                page.wait_for_timeout(1000 * max(0.0, HOUR / args.rate - (waits[-1] if waits else 0)))
                waits.append(decide(page))
            page.context.close()
        previews = [path.stat().st_size / 1e6 for path in (folder / "run/review").rglob("*.mp4")]
        browser.close()
    waits = waits[WARM_UP:]
    about = f"{sizes}; preview {statistics.median(previews):.2f} MB"
    good = verdict(
        "seconds per decision, unthrottled", HOUR / rate, HOUR / RATE, f"{rate:.0f} decisions an hour, {about}"
    )
    line = f"median {statistics.median(waits):.3f} s, all {[round(wait, 3) for wait in sorted(waits)]}"
    name = f"slowest seconds until the next pair shows, {args.megabytes:g} MB/s"
    return 0 if verdict(name, max(waits), SHOWN_SECONDS, line) and good else 1


if __name__ == "__main__":
    sys.exit(main())
