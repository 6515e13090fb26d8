"""The statistics and the page of an evaluation of 1,000 clips by 10 methods, on made-up scores.

    python -m benchmarks.evaluation [--clips 1000] [--methods 10]

Bounds: 30 s for the means, all pairs of methods compared; 3 s until Chromium, where it is there, has loaded the page.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.timing import peak_megabytes, verdict
from ffpdata.evaluation.comparison import compare_all
from ffpdata.evaluation.metric_names import KNOWN
from ffpdata.evaluation.page import write_page
from ffpdata.evaluation.statistics import metrics_of, summarise

SECONDS, LOADED = 30.0, 3.0
CATEGORIES = 20


def made_up(clips: int, methods: int) -> pa.Table:
    """Scores of every known metric; 1 of 50 is missing, and the last method is better than the rest."""
    rng = np.random.default_rng(0)
    rows = clips * methods
    names = np.repeat([f"method {number}" for number in range(methods)], clips)
    items = np.tile([f"{number:04}" for number in range(clips)], methods)
    table = {"method": names, "item": items, "status": ["ok"] * rows, "reason": pa.nulls(rows, pa.string())}
    table |= {"category": np.tile([f"category {number % CATEGORIES}" for number in range(clips)], methods)}
    table |= {"instruction": [f"make it number {item}" for item in items], "judge": ["a judge"] * rows}
    table |= {"source": [f"clips/{item}/source.mp4" for item in items]}
    table |= {"target": [f"clips/{item}/{name}.mp4" for name, item in zip(names, items, strict=True)]}
    for metric in KNOWN:
        values = np.tile(rng.normal(0.8, 0.1, clips), methods) + rng.normal(0, 0.05, rows)
        values += 0.02 * (names == names[-1])
        values[rng.random(rows) < 1 / 50] = np.nan
        table[metric] = pa.array(values, from_pandas=True)
    return pa.table(table)


def load_seconds(page: Path) -> tuple[float, int]:
    """Seconds until Chromium has loaded a page and painted it, and the number of video elements then."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        start = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="load")
        tab.screenshot()
        seconds = time.perf_counter() - start
        videos = tab.evaluate("document.querySelectorAll('video').length")
        browser.close()
    return seconds, videos


def main() -> int:
    """Measure; 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--methods", type=int, default=10)
    options = parser.parse_args()
    table = made_up(options.clips, options.methods)
    metrics = metrics_of(table)
    start = time.perf_counter()
    summaries = summarise(table, metrics)
    means = time.perf_counter() - start
    pairs = list(itertools.combinations(dict.fromkeys(table["method"].to_pylist()), 2))
    compared = compare_all(table, pairs, metrics)
    seconds = time.perf_counter() - start
    told = f"{len(summaries)} means in {means:.2f} s and {len(compared)} comparisons, {peak_megabytes():.0f} MB"
    good = verdict("statistics, s", seconds, SECONDS, told)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        page = write_page(table, Path(folder), benchmark="editverse", title="Made-up scores")
        print(f"page: {page.stat().st_size / 1e6:.2f} MB written in {time.perf_counter() - start:.2f} s")
        if shutil.which("chromium"):
            loaded, videos = load_seconds(page)
            good &= verdict("page loaded, s", loaded, LOADED, f"{videos} video elements")
        else:
            print("page loaded: not measured, no Chromium here")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
