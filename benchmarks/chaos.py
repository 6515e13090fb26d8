"""Kill things at random while a run works, resume it to the end, and see whether anything was lost or done twice.

    python -m benchmarks.chaos --seeds 100
    python -m benchmarks.chaos --seeds 5 --kill worker ffmpeg     # these two in every seed, while they work

Every seed starts a run of toy stages on a real cluster of three nodes on this machine. Among its items some are poison:
they raise, exit, crash, hang or eat memory. At random instants the driver, a worker, the ffmpeg that a worker waits
for, a raylet or a whole node is killed with signal 9. What became of each is printed: whether the ffmpeg of a dead
worker ended with it, and how often its item was begun. A dead driver is started again, and at the end the same command
runs undisturbed. Then exactly the poisoned items must have failed, every other item must hold the row and the file of
an undisturbed run, and no item may have been completed twice: completed is what has its outcome recorded.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.cluster_utils import Cluster

from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records

REPOSITORY = Path(__file__).resolve().parents[1]
POISON = {
    "raise": "ZeroDivisionError",
    "exit": "worker_died",
    "segv": "worker_died",
    "hang": "timeout",
    "eat": "worker_died",
}
TARGETS = ("driver", "worker", "ffmpeg", "raylet", "node")
GONE_SECONDS = 5.0
"""So long a killed process's ffmpeg may take to end."""


@dataclass
class Kill:
    """One thing that was killed.

    Attributes:
        target: what it was.
        worker: process id of the worker that was killed, or whose ffmpeg was; 0 for others.
        children: what ran under it.
        gone: seconds until these had ended; None where some did not.
    """

    target: str
    worker: int = 0
    children: list[int] = field(default_factory=list)
    gone: float | None = 0.0


@dataclass
class Result:
    """What became of one seed."""

    seed: int
    kills: list[str] = field(default_factory=list)
    starts: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    """Items whose worker was killed after they had run and before their outcome was recorded: they had to run again."""
    after: list[str] = field(default_factory=list)
    """What became of each kill."""


class Machine:
    """A head node that is left alone and two nodes that are killed."""

    def __init__(self) -> None:
        # The head has no cores, so all work is on nodes that may die; a dead node is noticed after a few seconds.
        system = {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}
        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": system}
        )
        self.nodes = [self._add(), self._add()]

    def _add(self) -> Any:
        for _ in range(5):
            with contextlib.suppress(Exception):  # a node may need longer than Ray waits, on a busy machine
                return self.cluster.add_node(num_cpus=2)
        return self.cluster.add_node(num_cpus=2)

    def kill(self, target: str, driver: subprocess.Popen[bytes], draw: random.Random, folder: Path) -> Kill | None:
        """Kill one thing; None where there was none to kill."""
        if target == "driver":
            driver.kill()
        elif target in ("worker", "ffmpeg"):
            films = films_of(folder)
            workers = sorted(set(films.values())) or ([] if target == "ffmpeg" else workers_of(driver.pid))
            if not workers:
                return None
            worker = draw.choice(workers)
            children = [pid for pid, parent in films.items() if parent == worker]
            for pid in [worker] if target == "worker" else children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return Kill(target, worker, children, wait_gone(children))
        else:
            node = self.nodes.pop(draw.randrange(2))
            if target == "raylet":
                node.kill_raylet()
                time.sleep(draw.uniform(0, 2))
            with contextlib.suppress(Exception):
                self.cluster.remove_node(node, allow_graceful=False)
            self.nodes.append(self._add())
        return Kill(target)

    def close(self) -> None:
        """Stop all nodes."""
        self.cluster.shutdown()


def workers_of(driver: int) -> list[int]:
    """Process ids of the Ray workers that serve ffpdata on this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != driver:
            with contextlib.suppress(OSError):
                if (entry / "cmdline").read_bytes().startswith(b"ray::Worker"):
                    found.append(int(entry.name))
    return sorted(found)


def films_of(folder: Path) -> dict[int, int]:
    """Process ids of the ffmpeg that write for this run, to those of the workers that wait for them."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            if b"ffmpeg" in command.partition(b"\0")[0] and str(folder / "run").encode() in command:
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def wait_gone(pids: list[int]) -> float | None:
    """Seconds until processes have ended; None where they have not after `GONE_SECONDS`."""
    began = time.monotonic()
    while time.monotonic() - began < GONE_SECONDS:
        if not any(running(pid) for pid in pids):
            return time.monotonic() - began
        time.sleep(0.01)
    return None


def running(pid: int) -> bool:
    """Return whether a process runs; one that ended and that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def after(kill: Kill, folder: Path) -> str:
    """Say what became of a kill."""
    if not kill.worker:
        return f"{kill.target}: the run went on"
    tries = sorted(folder.glob(f"encode-*-{kill.worker}"), key=lambda path: path.stat().st_mtime)
    films = f"its {len(kill.children)} ffmpeg " if kill.target == "worker" else "it "
    ended = films + ("outlived it" if kill.gone is None else f"ended in {kill.gone:.2f} s")
    if not tries or not kill.children:
        return f"{kill.target} {kill.worker}: {ended}, it held no film"
    text = "-".join(tries[-1].name.split("-")[1:3])
    again = len(list(folder.glob(f"encode-{text}-*")))
    connection = RunFolder.existing(folder / "run").connect()
    [row] = records(connection, "select status from items where item_id = $item", {"item": f"id-{text}"})
    return f"{kill.target} {kill.worker}: {ended}, {text} was begun {again} times and is {row['status']}"


def prepare(folder: Path, draw: random.Random, items: int) -> dict[str, str]:
    """Write inputs and the pipeline; returns the poisoned items with the reasons that they must fail with."""
    bad = {f"{kind}-{i}": POISON[kind] for i, kind in enumerate(draw.choices(list(POISON), k=draw.randint(1, 4)))}
    texts = [f"good-{i}" for i in range(items)] + list(bad)
    draw.shuffle(texts)
    (folder / "in").mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / "in" / f"{number:03d}.txt").write_text(text)
    settings = {"trace": str(folder / "trace")}
    seconds = {"Poison": 0.1, "Encode": 0.5, "Second": 0.05}
    made = [{f"tests.toys:{name}": {**settings, "seconds": each}} for name, each in seconds.items()]
    stages = ["tests.toys:Read", *made]
    resources = {name: {"timeout": 15, "memory_gb": 0.4} for name in ("read", "poison", "encode", "second")}
    pipeline = {"name": "chaos", "track": "t", "stages": stages, "resources": resources}
    (folder / "chaos.yaml").write_text(yaml.safe_dump(pipeline))
    return bad


def one(seed: int, machine: Machine, folder: Path, items: int, targets: list[str]) -> Result:
    """One seed from its first start to its end; without `targets`, what is killed and when is drawn."""
    draw, result, began = random.Random(seed), Result(seed), time.monotonic()
    bad = prepare(folder, draw, items)
    command = [sys.executable, "-m", "ffpdata.cli", "run", str(folder / "chaos.yaml"), "--input", str(folder / "in")]
    command += ["--run", str(folder / "run"), "--runner", "ray", "-q"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "RAY_ADDRESS": machine.cluster.address}

    def start() -> subprocess.Popen[bytes]:
        result.starts += 1
        log = (folder / f"log-{result.starts}").open("wb")
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    driver, kills = start(), list[Kill]()
    for target in targets or draw.choices(TARGETS, k=draw.randint(1, 3)):
        if targets:  # as soon as there is a film in the making
            until = time.monotonic() + 60
            while driver.poll() is None and not films_of(folder) and time.monotonic() < until:
                time.sleep(0.02)
        else:
            time.sleep(draw.uniform(2.0, 9.0))
        if driver.poll() is None and (kill := machine.kill(target, driver, draw, folder)):
            kills.append(kill)
            result.kills.append(target)
        if driver.poll() is not None:
            driver = start()
    try:
        code = driver.wait(timeout=240)
        if code:
            code = start().wait(timeout=240)
    except subprocess.TimeoutExpired:
        driver.kill()
        result.problems.append("the run hangs")
        return result
    if code:
        result.problems.append(
            f"the last start ended with {code}: {(folder / f'log-{result.starts}').read_text()[-500:]}"
        )
    else:
        result.problems += judge(folder, bad, items)
        result.problems += [f"the ffmpeg of worker {each.worker} outlived it" for each in kills if each.gone is None]
        result.after = [after(kill, folder) for kill in kills]
        done = Counter((folder / "trace").read_text().split())
        result.again = sorted(text for text, count in done.items() if count > 1)
    result.seconds = time.monotonic() - began
    return result


def judge(folder: Path, bad: dict[str, str], items: int) -> list[str]:
    """Compare what the run holds with what an undisturbed one must hold."""
    run, problems = RunFolder.existing(folder / "run"), []
    connection = run.connect()
    rows = {
        r["item_id"]: r for r in records(connection, "select item_id, stage, status, reason, note, length from items")
    }
    failed = {name: row["reason"] for name, row in rows.items() if row["status"] != "ok"}
    # On a busy machine an item may run out of time before it has eaten its worker's memory.
    slow = {name for name in failed if name.startswith("id-eat") and failed[name] == "timeout"}
    failed |= dict.fromkeys(slow, POISON["eat"])
    if failed != {f"id-{name}": reason for name, reason in bad.items()}:
        problems.append(f"failed: {failed}, poisoned: {bad}")
    for number in range(items):
        text = f"good-{number}"
        row = rows.get(f"id-{text}")
        if row is None:
            problems.append(f"{text} is lost")
        elif row["length"] != len(text) or run.store.read(row["note"]).decode() != text:
            problems.append(f"{text} holds {row}")
    for stage in ("poison", "encode", "second"):
        twice = records(
            connection,
            f"select entered_id from {stage}_history where status = 'ok' group by entered_id, key "
            "having count(distinct started_at) > 1",
        )
        problems += [f"{row['entered_id']} was completed twice at {stage}" for row in twice]
    left = [str(p) for p in (folder / "run").rglob("*") if p.is_file() and ".part" in p.suffixes]
    return problems + [f"left behind: {path}" for path in left]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--kill", nargs="+", choices=TARGETS, default=[], help="in each seed, in this order")
    parser.add_argument("--keep", type=Path, help="folder for the runs that have a problem")
    given = parser.parse_args()
    machine, results = Machine(), []
    print(f"{'seed':>4} {'starts':>6} {'seconds':>7}  {'killed':<32} result", flush=True)
    with tempfile.TemporaryDirectory(prefix="ffpdata-chaos-") as root:
        for seed in range(given.first, given.first + given.seeds):
            folder = Path(root) / str(seed)
            result = one(seed, machine, folder, given.items, given.kill)
            results.append(result)
            verdict = "; ".join(result.problems) or "ok"
            verdict += f" (ran again: {', '.join(result.again)})" if result.again else ""
            print(
                f"{seed:>4} {result.starts:>6} {result.seconds:>7.1f}  {', '.join(result.kills):<32} {verdict}",
                flush=True,
            )
            for line in result.after:
                print(f"     {line}", flush=True)
            if not result.problems:
                shutil.rmtree(folder, ignore_errors=True)
            elif given.keep:
                shutil.copytree(folder, given.keep / str(seed), dirs_exist_ok=True)
    machine.close()
    kills = Counter(kill for result in results for kill in result.kills)
    good = sum(not result.problems for result in results)
    print(f"{good} of {len(results)} seeds ok; killed: {dict(kills)}")
    if ray.is_initialized():
        ray.shutdown()
    sys.exit(good < len(results))


if __name__ == "__main__":
    main()
