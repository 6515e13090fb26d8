"""CPU seconds and peak memory of every stage on 720p x 81 clips, one process per stage.

    python -m benchmarks.stages [local_editing stylization] [--clips 1] [--scenes 2] [--folder DIR]
                                [--until STAGE] [--set a.b=c ...]

The local track runs on real clips and on drawn scenes: the embedded segmenter finds nothing in the former, so that the
stages after it see the latter alone. Bounds: 1.5 GB for one worker in every stage; aims: 25 CPU seconds per clip on the
local track (removal and swap together), 40 per stylized pair. The sample folder is made first where there is none.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from ffpdata.core.config import load_pipeline
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.sql_text import quote
from ffpdata.manifests.views import records

PIPELINES = ("local_editing", "stylization")
MEMORY_GB = 1.5
AIM_CPU_S = {"local": 25.0, "style": 40.0}

ONE_STAGE = """
import sys
from benchmarks.timing import peak_megabytes
from ffpdata.core.config import load_pipeline
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.runners.session import StartOptions, start
name, source, run, stages, limit, *overrides = sys.argv[1:]
pipeline = load_pipeline(name, overrides=overrides)
made = pipeline.model_copy(update={"stages": pipeline.stages[: int(stages)]})
start(RunFolder(run), made, source, StartOptions(limit=int(limit) or None, quiet=True))
print(peak_megabytes())
"""


def peak_gb(*command: str) -> float:
    """Run a command whose last printed line is its own peak memory in MiB, and return that in GB.

    What wait4 tells has the memory of this process in it, from before the command took its place.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}")
    return float(done.stdout.split()[-1]) * 2**20 / 1e9


def write_table(samples: Path, clips: int, scenes: int) -> Path:
    """Write an input table of the first real clips and the first scenes."""
    from ffpdata.sample.folder import REAL_CLIPS

    with (samples / "clips.csv").open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    real = [row for row in rows if Path(row[0]).stem in REAL_CLIPS]
    drawn = [row for row in rows if row not in real]
    table = samples / f"clips-{clips}-{scenes}.csv"
    with table.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([head, *real[:clips], *drawn[:scenes]])
    return table


def measure(name: str, source: Path, folder: Path, *, limit: int, until: str, overrides: list[str]) -> bool:
    """Run one pipeline stage by stage and print a line each; returns whether every bound holds.

    Args:
        name: of the pipeline.
        source: its input.
        folder: where the run folder is made.
        limit: take only the first so many entries of the input; 0 takes all.
        until: the last stage to measure; all of them where it is empty.
        overrides: of the pipeline's settings.
    """
    pipeline = load_pipeline(name)
    run, stages = folder / f"run-{name}", [entry.name for entry in pipeline.stages]
    if until:
        stages = stages[: stages.index(until) + 1]
    peaks = {
        stage: peak_gb(sys.executable, "-c", ONE_STAGE, name, str(source), str(run), str(i + 1), str(limit), *overrides)
        for i, stage in enumerate(stages)
    }
    connection = RunFolder.existing(run).connect()
    finished = until or ("synthesize" if pipeline.track == "local" else "stylize")
    whole = {row["source_id"] for row in records(connection, f"select distinct source_id from {finished}")}
    total, good = 0.0, True
    print(f"\n{name}: {len(whole)} clips with a target; bound {MEMORY_GB} GB")
    print(f"{'stage':<18} {'items':>5} {'cpu s/item':>10} {'cpu s/clip':>10} {'peak GB':>8} {'ratio':>6}")
    for stage, peak in peaks.items():
        # Items that share a key share the work: it is counted once.
        query = f"select key, min(source_id) as source, max(cpu_seconds) as cpu from {quote(stage)} group by key"
        work = records(connection, query)
        each = sum(row["cpu"] for row in work) / max(1, len(work))
        per_clip = sum(row["cpu"] for row in work if row["source"] in whole) / max(1, len(whole))
        total += per_clip
        good &= peak <= MEMORY_GB
        figures = f"{len(work):>5} {each:>10.2f} {per_clip:>10.2f} {peak:>8.2f} {peak / MEMORY_GB:>6.2f}"
        print(f"{stage:<18} {figures}")
    [made] = records(connection, f"select count(*) as n from {finished} where status = 'ok'")
    per, unit = (1.0, "clip") if pipeline.track == "local" else (len(whole) / max(1, made["n"]), "pair")
    aim = AIM_CPU_S[pipeline.track]
    print(f"total {total * per:.1f} CPU s per {unit}, aim {aim:g}: ratio {total * per / aim:.2f}", flush=True)
    return good


def main() -> None:
    """Measure both pipelines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="*", help=f"some of {', '.join(PIPELINES)}")
    parser.add_argument("--clips", type=int, default=1, help="real clips, or content of the stylization track")
    parser.add_argument("--scenes", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--until", default="", metavar="STAGE", help="measure no stage after this one")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override one setting")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="ffpdata-bench-"))
    samples = folder / "sample"
    if not (samples / "clips.csv").exists():
        from ffpdata.sample import write_samples

        write_samples(samples, quick=True)
    held = []
    for name in options.pipelines or PIPELINES:
        local = name == "local_editing"
        source = write_table(samples, options.clips, options.scenes) if local else samples
        limit = 0 if local else options.clips
        held.append(measure(name, source, folder, limit=limit, until=options.until, overrides=options.set))
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
