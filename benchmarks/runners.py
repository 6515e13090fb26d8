"""The demo's two runs under `--runner ray` against `--runner inline`, on this machine's cores.

    python -m benchmarks.runners [local_editing stylization] [--sample DIR] [--rounds 1] [--limit N] [--set a.b=c ...]

Counted is the work: from the moment when the first item is begun to the end of the last, without the start of either.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import verdict
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.sql_text import quote
from ffpdata.manifests.views import records
from ffpdata.sample import write_samples

PIPELINES = {"local_editing": ("clips.csv", []), "stylization": (".", ["input.styles_per_source=1"])}
"""Where the input lies in the sample folder, and settings."""
BOUND = 0.65
"""On two cores."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="*", default=list(PIPELINES))
    parser.add_argument("--sample", type=Path, help="a folder of `ffpdata sample`; made anew where it is not given")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--limit", type=int, help="take only so many entries of each input")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override one setting of both runs")
    arguments = parser.parse_args()
    took: dict[str, list[float]] = {"inline": [], "ray": []}
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        more = [word for setting in arguments.set for word in ("--set", setting)]
        more += ["--limit", str(arguments.limit)] if arguments.limit else []
        sample = arguments.sample or folder / "sample"
        if not arguments.sample:
            write_samples(sample)
        for number in range(arguments.rounds):
            for runner in sorted(took, reverse=bool(number % 2)):
                took[runner].append(work(folder / f"{runner}-{number}", sample, runner, arguments.pipelines, more))
                print(f"{runner}: {took[runner][-1]:.0f} s", flush=True)
    ray, inline = (statistics.median(took[runner]) for runner in ("ray", "inline"))
    detail = f"{ray:.0f} s against {inline:.0f} s on {os.cpu_count()} cores"
    return 0 if verdict("demo on ray / inline", ray / inline, BOUND, detail) else 1


def work(folder: Path, sample: Path, runner: str, pipelines: list[str], more: list[str]) -> float:
    """Run the tracks and return the seconds of work."""
    for name in pipelines:
        place, settings = PIPELINES[name]
        source = sample / place
        command = [sys.executable, "-m", "ffpdata.cli", "run", name, "--input", str(source), "--run", str(folder)]
        command += [
            "--runner",
            runner,
            "--quiet",
            *(word for setting in settings for word in ("--set", setting)),
            *more,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    run, seconds = RunFolder.existing(folder), 0.0
    for track, stages in run.tracks().items():
        spans = [f"select started_at, seconds from {quote(stage)} where track = '{track}'" for stage in stages]
        query = "select min(epoch(started_at)) as first, max(epoch(started_at) + seconds) as last from "
        [span] = records(run.connect(), f"{query} ({' union all '.join(spans)})")
        seconds += span["last"] - span["first"]
    return seconds


if __name__ == "__main__":
    sys.exit(main())
