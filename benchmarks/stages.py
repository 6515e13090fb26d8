"""CPU seconds and peak memory of every stage on 720p x 81 clips, one process per stage.

    python -m benchmarks.stages [--clips 2] [--folder DIR]

Bounds: 1.5 GB for one worker in every stage; aims: 25 CPU seconds per clip on the local track (removal and swap
together), 40 per stylized pair. Sample clips are made first where the folder has none.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

from ffpdata.core.config import load_pipeline
from ffpdata.core.run import RunFolder
from ffpdata.core.views import quote, records

MEMORY_GB = 1.5
AIM_CPU_S = {"local": 25.0, "style": 40.0}

ONE_STAGE = """
import sys
from ffpdata.core.config import load_pipeline
from ffpdata.core.run import RunFolder
from ffpdata.runners.session import start
name, source, run, stages, limit = sys.argv[1:]
pipeline = load_pipeline(name)
made = pipeline.model_copy(update={"stages": pipeline.stages[: int(stages)]})
start(RunFolder(run), made, source, limit=int(limit), quiet=True)
"""


def peak_gb(*command: str) -> float:
    """Run a command and return the peak resident memory of its process in GB."""
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return usage.ru_maxrss / (1e6 if sys.platform != "darwin" else 1e9)


def measure(name: str, source: Path, folder: Path, clips: int) -> bool:
    """Run one pipeline stage by stage and print a line each; returns whether every bound holds."""
    pipeline = load_pipeline(name)
    run = folder / f"run-{name}"
    peaks = {
        entry.name: peak_gb(sys.executable, "-c", ONE_STAGE, name, str(source), str(run), str(i + 1), str(clips))
        for i, entry in enumerate(pipeline.stages)
    }
    connection = RunFolder.existing(run).connect()
    total, good = 0.0, True
    sources = max(1, _count(connection, "ingest"))
    print(f"\n{name}: {sources} clips; bound {MEMORY_GB} GB")
    print(f"{'stage':<18} {'items':>5} {'cpu s/item':>10} {'cpu s/clip':>10} {'peak GB':>8} {'ratio':>6}")
    for stage, peak in peaks.items():
        # Items that share a key share the work: it is counted once.
        query = f"select key, max(cpu_seconds) as cpu from {quote(stage)} group by key"
        work = [row["cpu"] for row in records(connection, query)]
        cpu, items = sum(work), max(1, len(work))
        total += cpu
        good &= peak <= MEMORY_GB
        figures = f"{len(work):>5} {cpu / items:>10.2f} {cpu / sources:>10.2f} {peak:>8.2f} {peak / MEMORY_GB:>6.2f}"
        print(f"{stage:<18} {figures}")
    unit = "clip" if pipeline.track == "local" else "pair"
    each = total / (sources if unit == "clip" else max(1, _count(connection, "stylize")))
    aim = AIM_CPU_S[pipeline.track]
    print(f"total {each:.1f} CPU s per {unit}, aim {aim:g}: ratio {each / aim:.2f}")
    return good


def _count(connection: duckdb.DuckDBPyConnection, stage: str) -> int:
    rows = records(connection, f"select count(*) as n from {quote(stage)} where status = 'ok'")
    return int(rows[0]["n"])


def main() -> None:
    """Measure both pipelines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="ffpdata-bench-"))
    samples = folder / "sample"
    if not (samples / "clips.csv").exists():
        from ffpdata.sample import write_samples

        write_samples(samples)
    held = [
        measure("local_editing", samples / "clips.csv", folder, options.clips),
        measure("stylization", samples, folder, options.clips),
    ]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
