"""Manifests at the size of a real dataset, and how fast the command answers.

    python -m benchmarks.manifests [--rounds 3] [--scale 1] [--folder DIR]

Bounds: the keys of a stage's finished rows, as a start reads them and asks for 100K of them: of 300K rows, 1.5 s; of
3M rows, 6 s and 600 MB; reading 10K parts, 3 s; `ffpdata --help`, 0.5 s. Every measurement runs in a process of its
own, whose peak memory is shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.timing import peak_megabytes, verdict
from ffpdata.core.keys import digest
from ffpdata.core.stage import Artifact
from ffpdata.manifests.manifest import COMMON

STAGE = "segment"
MEGABYTES = 600
ASKED = 100_000

CASES = {
    # name: rows, rows per part, bound in seconds
    "finished keys of 300K rows": (300_000, 500, 1.5),
    "finished keys of 3M rows": (3_000_000, 12_000, 6.0),
    "reading 10K parts": (300_000, 30, 3.0),
}
"""A run merges a stage's parts at its start when there are more than 256, so millions of rows lie in large parts."""


def make(folder: Path, rows: int, per_part: int) -> None:
    """Write a stage's manifest as a run leaves it: 5% of the rows failed."""
    parts = folder / "manifests" / STAGE
    parts.mkdir(parents=True)
    now = datetime.now(UTC)
    for number, first in enumerate(range(0, rows, per_part)):
        these = range(first, min(first + per_part, rows))
        count = len(these)
        columns = {
            "item_id": [f"{n:016x}/00/removal/bbox" for n in these],
            "parent_id": [f"{n:016x}/00" for n in these],
            "entered_id": [f"{n:016x}/00/removal/bbox" for n in these],
            "source_id": [f"{n:016x}" for n in these],
            "key": [digest(n) for n in these],
            "upstream": [digest("before", n) for n in these],
            "status": ["failed" if n % 20 == 0 else "ok" for n in these],
            "started_at": [now] * count,
            "seconds": [1.5] * count,
        }
        text = {"track": "local", "stage": STAGE, "worker": "host:1", "model": "Segmenter@1"}
        arrays = []
        for column in COMMON:
            values = columns.get(column.name, [text.get(column.name)] * count)
            arrays.append(pa.array(values, type=column.type))
        mask = pa.array([f"artifacts/mask_video/ab/{n:032x}.mp4" for n in these])
        table = pa.table([*arrays, mask], names=[*COMMON.names, "mask_video"])
        pq.write_table(table, parts / f"part-{number:020d}-0000aaaa-00000000.parquet", compression="zstd")


def asked(rows: int) -> range:
    """Numbers of the rows whose keys are asked for."""
    return range(0, rows, max(1, rows // ASKED))


def scaled(case: str, scale: float) -> tuple[int, int, float]:
    """A case with fewer rows: of the parts' sizes each is kept, so that a small case still has two."""
    rows, per_part, bound = CASES[case]
    return max(2, int(rows * scale)), max(1, min(per_part, int(rows * scale) // 2)), bound


def child(case: str, folder: Path, scale: float) -> None:
    """Measure one case in this process and print seconds, megabytes and what was found."""
    import duckdb

    from ffpdata.manifests.manifest import Manifest
    from ffpdata.manifests.views import scan
    from ffpdata.runners.stage_index import StageIndex
    from ffpdata.storage.store import Store

    store, rows = Store(folder), scaled(case, scale)[0]
    keys = [digest(n) for n in asked(rows)]
    start = time.perf_counter()
    if case.startswith("reading"):
        with duckdb.connect() as connection:
            query = f"select count(*), max(seconds) from {scan(store, Manifest(store).parts(STAGE))}"
            found = connection.execute(query).fetchall()[0][0]
    else:
        index = StageIndex(Manifest(store), STAGE, {"mask_video": Artifact("mp4")}, "local")
        found = sum(key in index for key in keys)
    seconds = time.perf_counter() - start
    memory = peak_megabytes()
    print(json.dumps({"seconds": seconds, "megabytes": memory, "found": found}))


def measure(case: str, folder: Path, rounds: int, scale: float) -> bool:
    rows, per_part, bound = scaled(case, scale)
    place = folder / case.replace(" ", "-")
    make(place, rows, per_part)
    command = [sys.executable, "-m", "benchmarks.manifests", "--child", case, "--folder", str(place)]
    command += ["--scale", str(scale)]
    told = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(rounds)
    ]
    assert told[0]["found"] == (rows if case.startswith("reading") else sum(n % 20 != 0 for n in asked(rows)))
    seconds = statistics.median(t["seconds"] for t in told)
    megabytes = max(t["megabytes"] for t in told)
    parts = len(range(0, rows, per_part))
    good = verdict(f"{case}, s", seconds, bound, f"{parts} parts, {megabytes:.0f} MB, ratio {seconds / bound:.2f}")
    if case.startswith("finished keys"):
        good &= verdict(f"{case}, MB", megabytes, MEGABYTES, f"ratio {megabytes / MEGABYTES:.2f}")
    return good


def help_page(rounds: int) -> bool:
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ffpdata.cli", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[1:])
    return verdict("ffpdata --help, s", median, 0.5, f"ratio {median / 0.5:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rows")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.folder, args.scale)
        return 0
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        good = [measure(case, Path(folder), args.rounds, args.scale) for case in CASES]
        good.append(help_page(args.rounds))
    return not all(good)


if __name__ == "__main__":
    sys.exit(main())
