"""What a start of a large run costs before its first new task, and `ffpdata status`.

    python -m benchmarks.resume [deep wide] [--rounds 3] [--scale 1] [--folder DIR]

Two run folders of a million manifest rows: `deep`, 100K inputs that went through ten stages, and `wide`, a million
inputs of one stage. About 60 % of the inputs are through, a few hundred are on their way (some failed), the others are
not begun. Every folder is measured as a run leaves it, in parts of 500 rows, and compacted.

Bounds: planning (from the listed inputs to the first task that can be taken) 10 s and 1.5 GB; `ffpdata status` 3 s.
Without a bound, as `changed`: the last stage's question was changed, so that every item is looked up stage by stage
and ends at the last stage; and merging the parts.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.timing import peak_megabytes, verdict
from ffpdata.core.keys import digest
from ffpdata.core.stage import Artifact, Child, Item, Row, Stage
from ffpdata.manifests.manifest import Manifest, ManifestWriter, sql_types, stage_schema
from ffpdata.manifests.run_folder import RUN_FILE, RunFolder
from ffpdata.runners.finished_inputs import FinishedInputs
from ffpdata.runners.flow import Flow
from ffpdata.runners.progress import Progress
from ffpdata.runners.session import make_flow
from ffpdata.runners.task import Outcome
from ffpdata.storage.store import Store

TRACK = "local"
CASES = {"deep": (100_000, 10), "wide": (1_000_000, 1)}
"""Inputs that are begun, and stages; the rows are about their product."""
THROUGH, MIDDLE = 0.6, 400
PLAN_S, PLAN_MB, STATUS_S = 10.0, 1500.0, 3.0
WINDOW = 8192
"""Inputs that are open at once while a changed run is walked."""


class First(Stage):
    """Names an input by its content, as `source` does."""

    name, version = "step00", 1
    reads, uses = ("path", "fingerprint", "given_object", "licence"), ("root",)
    writes = {"path": str, "kind": str, "sha": str, "bytes": int, "given_object": str, "licence": str, "url": str}
    fan_out = True

    def expand(self, row: Row) -> list[Child]:
        """Name the input."""
        sha = digest(row["path"])[:16]
        facts = {"path": row["path"][-24:], "kind": "video", "sha": sha, "bytes": 4_000_000, "licence": "CC-BY-4.0"}
        return [Child(sha, facts, source_id=sha)]


class Step(Stage):
    """One of the stages after it: a file, a sentence, a number and some facts."""

    number = 1

    def answer(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of a row."""
        n, key = self.number, digest(self.name, row[f"video{self.number - 1}"] if self.number > 1 else row["sha"])
        return {
            f"video{n}": f"artifacts/video{n}/{key[:2]}/{key}.mp4",
            f"text{n}": f"A dog runs across the lawn in front of the house, seen by step {n} at {key[:8]}.",
            f"score{n}": int(key[:6], 16) / 0xFFFFFF,
            f"facts{n}": {"warp_error": 1.25, "unrevealed": 0.125},
        }

    def process(self, row: Row) -> dict[str, Any]:
        """Go on in the same line."""
        return self.answer(row)

    def expand(self, row: Row) -> list[Child]:
        """Go on in a line of its own."""
        return [Child("00" if self.number == 1 else "removal/bbox", self.answer(row))]


def pipeline(count: int, last_version: int = 1) -> list[Stage]:
    """The first stage and as many steps after it as wanted; two of them fan out, as ingest and propose do."""
    stages: list[Stage] = [First()]
    for n in range(1, count):
        shape = {
            "name": f"step{n:02d}",
            "version": last_version if n == count - 1 else 1,
            "number": n,
            "reads": (f"video{n - 1}", f"text{n - 1}") if n > 1 else ("sha",),
            "writes": {f"video{n}": Artifact("mp4"), f"text{n}": str, f"score{n}": float, f"facts{n}": dict},
            "fan_out": n in (1, 4),
        }
        stages.append(type(f"Step{n:02d}", (Step,), shape)())
    if count == 1:
        stages[0].version = last_version  # type: ignore[misc]
    return stages


def inputs(count: int) -> list[Item]:
    """The listed input, as `list_inputs` makes it of a table."""
    items = []
    for n in range(count):
        values = {
            "path": f"/data/koala36m/clips/{n % 4096:03x}/{n:012d}.mp4",
            "root": "/data/koala36m",
            "fingerprint": f"{3_000_000 + n}-17{n:017d}",
            "given_object": ("dog", "coffee cup", "red car", "person")[n % 4],
            "licence": "CC-BY-4.0",
            "url": f"https://example.org/watch?v={n:011x}",
        }
        items.append(Item(f"input/{n:016x}", values))
    return items


def made_of(stage: Stage, item: Item, *, fail: bool = False) -> Outcome:
    """The outcome of a stage that is not run; one of a hundred items is rejected there."""
    key = stage.key_of(item.values)
    outcome = Outcome("ok", key, worker="node-17:4242", cpu_seconds=1.25, started_at=1.7e9, model="Toy@1")
    outcome.seconds = int(key[4:8], 16) / 1e4
    if fail:
        outcome.status, outcome.reason, outcome.error = "failed", "RuntimeError", "Traceback: CUDA out of memory\n" * 20
    elif int(key[:4], 16) % 100 == 0:
        outcome.status, outcome.reason, outcome.error = "rejected", "too_dark", "12.5 is below 20"
    else:
        row = Row({name: item.values.get(name) for name in (*stage.reads, *stage.uses)})
        outcome.children = stage.expand(row) if stage.fan_out else [Child("", stage.process(row))]  # type: ignore[arg-type]
    return outcome


def build(folder: Path, begun: int, count: int) -> None:
    """Write the run folder, stage after stage in parts of 500 rows, as a run would with full buffers."""
    stages, store = pipeline(count), Store(folder)
    columns = {s.name: sql_types(s.writes) for s in stages}
    begin = {"pipeline": {"track": TRACK, "stages": [{"name": s.name} for s in stages]}, "columns": columns}
    store.write(RUN_FILE, yaml.safe_dump(begin, explicit_start=True).encode())
    with ManifestWriter(Manifest(store), seconds=3600) as writer:
        finished = FinishedInputs(stages, writer, TRACK)
        finished.unfinished([])
        middle = range(begun, begun + MIDDLE)
        for number, item in enumerate(inputs(begun + len(middle))):
            last = 1 + number % count if number in middle else count
            passed, waiting = [], [item]
            for place, stage in enumerate(stages[:last]):
                after = []
                for one in waiting:
                    outcome = made_of(stage, one, fail=number in middle and place == last - 1)
                    writer.add(stage.name, outcome.rows(stage, one, TRACK), stage_schema(stage.writes))
                    after += outcome.items(stage, one)
                    passed.append(stage.name)
                waiting = after
            if number not in middle:
                finished.add(item, passed)


def scaled(case: str, scale: float) -> tuple[int, int]:
    """Inputs that are begun, fewer by `scale`, and stages."""
    begun, count = CASES[case]
    return max(10, int(begun * scale)), count


def prepare(case: str, parent: Path, scale: float) -> tuple[Path, Path]:
    """The folder of a case in parts and its compacted copy; what is there already is used."""
    begun, count = scaled(case, scale)
    parts, whole = parent / case, parent / f"{case}-compacted"
    temporary = parent / f"{case}-making"
    shutil.rmtree(temporary, ignore_errors=True)
    if not parts.exists():
        start = time.perf_counter()
        build(temporary, int(begun * (1 if count > 1 else THROUGH)), count)
        print(f"     {case}: built in {time.perf_counter() - start:.0f} s", flush=True)
        temporary.rename(parts)
    if not whole.exists():
        shutil.copytree(parts, temporary)
        told = ask("compact", case, temporary, scale)
        print(f"     {case}: {told['merged']} parts merged in {told['seconds']:.1f} s, {told['megabytes']:.0f} MB")
        temporary.rename(whole)
    return parts, whole


# --- measured in processes of their own ---


def walk(flow: Flow, *, first: bool) -> int:
    """Drive a flow as a runner does until the first task (`first`) or to its end; returns the tasks taken."""
    taken = 0
    while not flow.ended():
        if flow.feed(1 if first and taken else WINDOW):
            pass
        for number in range(len(flow.stages)):
            while flow.resolve(number):
                pass
            while tasks := flow.take(number, 1 if first else WINDOW):
                taken += len(tasks)
                if first:
                    return taken
                for task in tasks:
                    flow.finish(task, made_of(flow.stages[number], task.item))
    return taken


def child(job: str, case: str, folder: Path, scale: float) -> dict[str, Any]:
    begun, count = scaled(case, scale)
    if job == "compact":
        manifest, start, merged = Manifest(Store(folder)), time.perf_counter(), 0
        for stage in manifest.stages():
            merged += manifest.compact(stage)
        return {"merged": merged, "seconds": time.perf_counter() - start, "megabytes": peak_megabytes()}
    changed = job == "changed"
    stages = pipeline(count, 2 if changed else 1)
    listing = int(begun / THROUGH) if count > 1 else begun
    items = inputs(int(listing * THROUGH) if changed else listing)  # new inputs would be computed from the start
    listed = peak_megabytes()
    gc.collect()
    run = RunFolder(folder)
    start, cpu = time.perf_counter(), time.process_time()
    with ManifestWriter(run.manifest, seconds=3600) as writer, Progress(run.store, quiet=True) as progress:
        flow = make_flow(stages, items, writer, progress, track=TRACK)
        made = time.perf_counter() - start
        taken = walk(flow, first=not changed)
        seconds = time.perf_counter() - start
        told = {"seconds": seconds, "cpu": time.process_time() - cpu, "make_flow": made, "taken": taken}
        told |= {"megabytes": peak_megabytes(), "listed": listed}
        if not changed:  # the rows that were not committed stay so
            writer._buffers.clear()
    return told


def ask(job: str, case: str, folder: Path, scale: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.resume", "--child", job, case, str(folder), "--scale", str(scale)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def status(folder: Path) -> tuple[float, float, float, dict[str, Any]]:
    """Seconds, CPU seconds and megabytes of `ffpdata status --json` in a process of its own, and what it says."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "ffpdata.cli", "status", str(folder), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        text = process.stdout.read()
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
    assert process.returncode == 0
    seconds = time.perf_counter() - start
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, json.loads(text)


def measure(case: str, parent: Path, rounds: int, scale: float) -> Iterator[bool]:
    """Print a line per measurement and yield whether its bound holds."""
    begun, count = scaled(case, scale)
    counted = []
    for folder, form in zip(prepare(case, parent, scale), ("parts", "compacted"), strict=True):
        told = [ask("plan", case, folder, scale) for _ in range(rounds)]
        seconds, peak = statistics.median(t["seconds"] for t in told), max(t["megabytes"] for t in told)
        number = sum(len(Manifest(Store(folder)).parts(s)) for s in Manifest(Store(folder)).stages())
        cpu = statistics.median(t["cpu"] for t in told)
        detail = f"{number} parts, {cpu:.1f} CPU-s, make_flow {told[0]['make_flow']:.1f} s"
        yield verdict(f"{case} {form}: planning, s", seconds, PLAN_S, f"{detail}, ratio {seconds / PLAN_S:.2f}")
        detail = f"{told[0]['listed']:.0f} MB of it the listed inputs, ratio {peak / PLAN_MB:.2f}"
        yield verdict(f"{case} {form}: planning, MB", peak, PLAN_MB, detail)
        took = [status(folder) for _ in range(rounds)]
        seconds, cpu = (statistics.median(t[n] for t in took) for n in (0, 1))
        detail = f"{cpu:.1f} CPU-s, {max(t[2] for t in took):.0f} MB, ratio {seconds / STATUS_S:.2f}"
        yield verdict(f"{case} {form}: status, s", seconds, STATUS_S, detail)
        counted.append(took[0][3])
    assert counted[0] == counted[1]
    place = parent / f"{case}-changed"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(parent / f"{case}-compacted", place)
    told = ask("changed", case, place, scale)
    rate = begun * (count if count > 1 else THROUGH) / told["seconds"]
    peak = told["megabytes"]
    detail = f"{told['seconds']:.0f} s, {told['cpu']:.0f} CPU-s, {rate:.0f} rows/s, {told['taken']} tasks"
    detail += f", ratio {peak / PLAN_MB:.2f}"
    yield verdict(f"{case}: changed, MB", peak, PLAN_MB, detail)
    shutil.rmtree(place)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"some of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of inputs")
    parser.add_argument("--folder", type=Path, help="where the run folders are made, and kept for the next time")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        job, case, folder = args.child
        print(json.dumps(child(job, case, Path(folder), args.scale)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        parent = args.folder or Path(temporary)
        parent.mkdir(parents=True, exist_ok=True)
        held = [good for case in args.cases or CASES for good in measure(case, parent, args.rounds, args.scale)]
    print(f"load average {os.getloadavg()[0]:.1f}")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
