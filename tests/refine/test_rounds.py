"""The whole loop on tiny checkpoints: two rounds, killed at every step; a worse one is not promoted; rollback.

The remover is the real VACE code on random weights and the training is the real one, so what is painted is no removal.
That the first round is better and the second worse is what the reviewers and the served model say of them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ffpdata.core.config import load_pipeline
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.media.codec import write_video
from ffpdata.refine.round import rounds
from ffpdata.review.assignments import Assignments, GivenVerdict
from ffpdata.review.pairs import PairFilter
from ffpdata.runners.session import StartOptions, start
from tests import fixture_run
from tests.models.tiny_profile import ANSWERS, LOCAL, MODEL, OVERRIDES, write_profile
from tests.openai_server import Say, Server

pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed"),
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).parents[2]
SOURCES = 12
PANEL = 5
SETTINGS = {
    "accepted": 3,
    "new_accepted": 1,
    "held_out": 0.6,
    "train.steps": 4,
    "train.save_every": 1,
    "train.rank": 4,
    "train.gpus": 0,
    "train.validation": 1,
    "train.measured": 1,
    "train.measure_every": 2,
    "compare.pairs": PANEL,
}
TARGETS = "select item_id, task, target_video, synthesize_key as key from items order by item_id"

Opinion = dict[str, float]
"""`score` that the served model gives to every removal that it screens."""


@pytest.fixture(scope="module")
def opinion() -> Opinion:
    return {"score": 6}


@pytest.fixture(scope="module")
def server(opinion: Opinion) -> Iterator[Server]:
    def answer(body: dict[str, Any]) -> Say:
        name = body["response_format"]["json_schema"]["name"]
        told = ANSWERS[name] | ({"score": opinion["score"]} if name == "screen" else {})
        return Say(json.dumps(told))

    with Server(answer, models=(MODEL,)) as server:
        yield server


@pytest.fixture(scope="module")
def run(server: Server, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of small clips by tiny models; the tests of this file take it from round to round."""
    import torch

    torch.set_num_threads(1)  # as the processes of the tests: tiny tensors are faster so
    folder = tmp_path_factory.mktemp("refine")
    (folder / "clips").mkdir()
    for number in range(SOURCES):
        write_video(folder / "clips" / f"{number}.mp4", fixture_run.source(number), fixture_run.FPS)
    profile = write_profile(folder, server.url, with_lora=False)
    overrides = [*OVERRIDES, *LOCAL, "curate.duplicate_bits=0"]
    made = RunFolder(folder / "run")
    start(
        made, load_pipeline("local_editing", str(profile), overrides), str(folder / "clips"), StartOptions(quiet=True)
    )
    return made


def command(run: RunFolder, *more: str, **settings: Any) -> list[str]:
    sets = [word for name, value in (SETTINGS | settings).items() for word in ("--set", f"{name}={value}")]
    return [sys.executable, "-m", "ffpdata.cli", "refine", run.store.root, "--json", *sets, *more]


def refine(run: RunFolder, *more: str, **settings: Any) -> dict[str, Any]:
    ended = subprocess.run(
        command(run, *more, **settings), cwd=ROOT, env=environment(), text=True, capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return dict(json.loads(ended.stdout))


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def kill_when(run: RunFolder, reached: Callable[[], bool], what: str) -> None:
    """Begin to refine and kill -9 as soon as something is so."""
    with subprocess.Popen(
        command(run), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while not reached():
            assert process.poll() is None, f"it ended before {what}: {process.stderr.read()[-4000:]!r}"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()


def judge(run: RunFolder, verdict: Callable[[dict[str, Any]], str], wanted: PairFilter) -> int:
    """Judge every pair that is wanted."""
    desk, judged = Assignments(run, overlap=0), 0
    while taken := desk.lease("ann", wanted, 10):
        for pair in taken:
            given = verdict(desk.pairs.row(pair))
            desk.submit("ann", pair.key, GivenVerdict(given, ("artifacts",) if given == "reject" else (), 2.0))
            judged += 1
    return judged


def targets(run: RunFolder) -> dict[str, tuple[str, str]]:
    return {row["item_id"]: (row["task"], row["target_video"]) for row in records(run.connect(), TARGETS)}


def removals(found: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {item: target for item, (task, target) in found.items() if task == "removal"}


def others(found: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {item: target for item, (task, target) in found.items() if task != "removal"}


def made(run: RunFolder) -> dict[tuple[str, str], int]:
    """How often each item was synthesized under each key."""
    rows = records(
        run.connect(),
        "select item_id, key, count(distinct started_at) as n from synthesize_history group by all",
    )
    return {(row["item_id"], row["key"]): row["n"] for row in rows}


def test_without_verdicts_reviewers_are_asked_for(run: RunFolder, shared: dict[str, Any]) -> None:
    stand = refine(run)
    assert (stand["round"], stand["state"]) == (0, "waiting")
    assert any("3 more accepted removals" in line for line in stand["lines"])
    assert any(f"{PANEL} removals wait" in line for line in stand["lines"])
    shared["base"] = targets(run)
    assert len(removals(shared["base"])) == len(others(shared["base"])) == SOURCES


def test_the_panel_is_judged_first_and_then_enough_to_train_on(run: RunFolder) -> None:
    assert judge(run, lambda _: "reject", PairFilter(compared=True)) == PANEL
    assert refine(run)["state"] == "waiting"
    assert judge(run, lambda _: "accept", PairFilter(task="removal")) == SOURCES - PANEL


def test_a_round_that_is_killed_at_every_step_goes_on_to_the_next_need_of_reviewers(
    run: RunFolder, opinion: Opinion, shared: dict[str, Any]
) -> None:
    opinion["score"] = 8
    folder = Path(run.store.root) / "refine" / "round-001"
    training = folder / "training"
    before, clips = len(made(run)), Path(run.store.root) / "artifacts" / "target_video"
    there = len(list(clips.rglob("*.mp4")))
    steps: dict[str, Callable[[], bool]] = {
        "its plan was there": (folder / "plan.json").exists,
        "the training knew its job": (training / "job.json").exists,
        "a checkpoint was there": lambda: any((training / "checkpoints").glob("*")),
        "its model was there": (folder / "lineage.json").exists,
        "a removal was made anew": lambda: len(list(clips.rglob("*.mp4"))) > there,
        "all removals were": (folder / "after.parquet").exists,
    }
    for what, reached in steps.items():
        assert not reached(), f"{what} too early: the step before was not the last"
        kill_when(run, reached, what)
    stand = refine(run)
    assert (stand["round"], stand["state"]) == (1, "waiting")
    assert any(f"{PANEL} removals wait" in line for line in stand["lines"])
    shared["first"] = targets(run)
    assert removals(shared["first"]).keys() == removals(shared["base"]).keys()
    assert not set(removals(shared["first"]).values()) & set(removals(shared["base"]).values())
    assert others(shared["first"]) == others(shared["base"])
    counts = made(run)
    assert len(counts) == before + SOURCES, "removals alone were made again"
    assert set(counts.values()) == {1}, "and each once"
    assert not training.exists()


def test_it_is_promoted_where_reviewers_like_it_better(run: RunFolder, shared: dict[str, Any]) -> None:
    assert judge(run, lambda _: "accept", PairFilter(compared=True)) == PANEL
    stand = refine(run)
    assert (stand["round"], stand["state"]) == (1, "promoted"), stand["lines"]
    assert stand["comparison"]["decided_by"] == "acceptance"
    assert targets(run) == shared["first"]
    profile = yaml.safe_load((Path(run.store.root) / "refine" / "promoted.yaml").read_text())
    assert profile["models"]["remover"] == rounds(run.store)[-1].spec().model_dump(mode="json", exclude_none=True)
    laid = load_pipeline("local_editing", f"cpu,{run.store.root}/refine/promoted.yaml").models["remover"]
    assert laid.identity() == rounds(run.store)[-1].spec().identity()
    lineage = rounds(run.store)[0].read_json("lineage.json")
    assert run.store.root not in json.dumps(lineage)
    models = {
        row["m"] for row in records(run.connect(), "select synthesize_model as m from items where task='removal'")
    }
    assert all(lineage["revision"][:8] in model for model in models), models
    assert (Path(run.store.root) / stand["report"]).stat().st_size > 10_000


def test_the_same_again_teaches_nothing(run: RunFolder) -> None:
    judge(run, lambda _: "reject", PairFilter(compared=True))
    stand = refine(run)
    assert (stand["round"], stand["state"]) == (1, "promoted")
    assert any("1 more accepted" in line for line in stand["lines"])


def test_a_worse_round_is_not_promoted_and_its_removals_do_not_hold(
    run: RunFolder, opinion: Opinion, shared: dict[str, Any]
) -> None:
    judge(run, lambda _: "accept", PairFilter(task="removal"))
    opinion["score"] = 2
    folder = Path(run.store.root) / "refine" / "round-002"
    kill_when(run, (folder / "lineage.json").exists, "its model was there")
    stand = refine(run, **{"compare.pairs": 0})
    assert (stand["round"], stand["state"]) == (2, "not_promoted")
    assert stand["comparison"]["decided_by"] == "screen_score"
    assert targets(run) == shared["first"]
    counts = made(run)
    assert len(counts) == SOURCES * 4
    assert set(counts.values()) == {1}, "going back computes nothing"


def test_a_promoted_round_can_be_rolled_back(run: RunFolder, shared: dict[str, Any]) -> None:
    before = made(run)
    stand = refine(run, "--rollback")
    assert (stand["round"], stand["state"]) == (1, "rolled_back")
    assert targets(run) == shared["base"]
    assert made(run) == before
    assert not (Path(run.store.root) / "refine" / "promoted.yaml").exists()
    ended = subprocess.run(command(run, "--rollback"), cwd=ROOT, text=True, capture_output=True, check=False)
    assert ended.returncode == 2
    assert "nothing to roll back" in ended.stderr


@pytest.fixture(scope="module")
def shared() -> dict[str, Any]:
    """What one test leaves to the next."""
    return {}
