"""Kill things at random while a run works, resume it to the end, and see whether anything was lost or done twice.

    python -m benchmarks.chaos --seeds 100

Every seed starts a run of toy stages on a real cluster of three nodes on this machine. Among its items some are poison:
they raise, exit, crash, hang or eat memory. At random instants the driver, a worker, a raylet or a whole node is killed
with signal 9; a dead driver is started again, and at the end the same command runs undisturbed. Then exactly the
poisoned items must have failed, every other item must hold the row and the file of an undisturbed run, and no item may
have been completed twice: completed is what has its outcome recorded.
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
TARGETS = ("driver", "worker", "raylet", "node")


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

    def kill(self, target: str, driver: subprocess.Popen[bytes], draw: random.Random) -> bool:
        """Kill one thing; False where there was none to kill."""
        if target == "driver":
            driver.kill()
        elif target == "worker":
            workers = workers_of(driver.pid)
            if not workers:
                return False
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(workers), signal.SIGKILL)
        else:
            node = self.nodes.pop(draw.randrange(2))
            if target == "raylet":
                node.kill_raylet()
                time.sleep(draw.uniform(0, 2))
            with contextlib.suppress(Exception):
                self.cluster.remove_node(node, allow_graceful=False)
            self.nodes.append(self._add())
        return True

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


def prepare(folder: Path, draw: random.Random, items: int) -> dict[str, str]:
    """Write inputs and the pipeline; returns the poisoned items with the reasons that they must fail with."""
    bad = {f"{kind}-{i}": POISON[kind] for i, kind in enumerate(draw.choices(list(POISON), k=draw.randint(1, 4)))}
    texts = [f"good-{i}" for i in range(items)] + list(bad)
    draw.shuffle(texts)
    (folder / "in").mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / "in" / f"{number:03d}.txt").write_text(text)
    settings = {"trace": str(folder / "trace"), "seconds": 0.1}
    stages = ["tests.toys:Read", {"tests.toys:Poison": settings}, {"tests.toys:Second": {**settings, "seconds": 0.05}}]
    resources = {name: {"timeout": 15, "memory_gb": 0.4} for name in ("read", "poison", "second")}
    pipeline = {"name": "chaos", "track": "t", "stages": stages, "resources": resources}
    (folder / "chaos.yaml").write_text(yaml.safe_dump(pipeline))
    return bad


def one(seed: int, machine: Machine, folder: Path, items: int) -> Result:
    """One seed from its first start to its end."""
    draw, result, began = random.Random(seed), Result(seed), time.monotonic()
    bad = prepare(folder, draw, items)
    command = [sys.executable, "-m", "ffpdata.cli", "run", str(folder / "chaos.yaml"), "--input", str(folder / "in")]
    command += ["--run", str(folder / "run"), "--runner", "ray", "-q"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "RAY_ADDRESS": machine.cluster.address}

    def start() -> subprocess.Popen[bytes]:
        result.starts += 1
        log = (folder / f"log-{result.starts}").open("wb")
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    driver = start()
    for _ in range(draw.randint(1, 3)):
        time.sleep(draw.uniform(2.0, 9.0))
        target = draw.choice(TARGETS)
        if driver.poll() is None and machine.kill(target, driver, draw):
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
    for stage in ("poison", "second"):
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
    parser.add_argument("--keep", type=Path, help="folder for the runs that have a problem")
    given = parser.parse_args()
    machine, results = Machine(), []
    print(f"{'seed':>4} {'starts':>6} {'seconds':>7}  {'killed':<32} result", flush=True)
    with tempfile.TemporaryDirectory(prefix="ffpdata-chaos-") as root:
        for seed in range(given.first, given.first + given.seeds):
            folder = Path(root) / str(seed)
            result = one(seed, machine, folder, given.items)
            results.append(result)
            verdict = "; ".join(result.problems) or "ok"
            verdict += f" (ran again: {', '.join(result.again)})" if result.again else ""
            print(
                f"{seed:>4} {result.starts:>6} {result.seconds:>7.1f}  {', '.join(result.kills):<32} {verdict}",
                flush=True,
            )
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
