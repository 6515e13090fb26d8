"""The whole loop on tiny checkpoints: two rounds, killed at every step; a worse one is not promoted; rollback.

The remover is the real VACE code on random weights and the training is the real one, so what is painted is no removal.
That the first round is better and the second worse is what the reviewers and the served model say of them. Every test
begins with a copy of a run folder that was prepared once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ffpdata.cli import main
from ffpdata.core.config import load_pipeline
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.media.codec import write_video
from ffpdata.refine.round import rounds
from ffpdata.review.assignments import Assignments, GivenVerdict
from ffpdata.review.pairs import PairFilter
from tests import fixture_run
from tests.answers import ANSWERS
from tests.models.tiny_profile import LOCAL, MODEL, OVERRIDES, write_profile
from tests.openai_server import Say, Server
from tests.training.tiny_training import Forks

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="the extra `models` is not installed"),
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).parents[2]
SOURCES = 9
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
def forks() -> Forks:
    return Forks()


@pytest.fixture(scope="module")
def told() -> Opinion:
    return {"score": 6}


@pytest.fixture
def opinion(told: Opinion) -> Opinion:
    """What a test changes; the next one finds it as it was."""
    told["score"] = 6
    return told


@pytest.fixture(scope="module")
def server(told: Opinion) -> Iterator[Server]:
    def answer(body: dict[str, Any]) -> Say:
        name = body["response_format"]["json_schema"]["name"]
        return Say(json.dumps(ANSWERS[name] | ({"score": told["score"]} if name == "screen" else {})))

    with Server(answer, models=(MODEL,)) as server:
        yield server


# --- run folders in the states that tests begin with; each is made once and copied ---


@pytest.fixture(scope="module")
def begun(server: Server, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of small clips by tiny models, which nobody judged."""
    folder = tmp_path_factory.mktemp("refine")
    (folder / "clips").mkdir()
    for number in range(SOURCES):
        write_video(folder / "clips" / f"{number}.mp4", fixture_run.source(number), fixture_run.FPS)
    assert forks.run(write_tiny_profile, folder, server.url) == 0
    overrides = [*OVERRIDES, *LOCAL, "curate.duplicate_bits=0"]
    words = ["run", "local_editing", "--profile", f"{folder}/tiny.yaml", "--input", f"{folder}/clips", "-q"]
    words += ["--run", f"{folder}/run", *(word for each in overrides for word in ("--set", each))]
    ended = cli(forks, words)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return folder / "run"


@pytest.fixture(scope="module")
def asked(begun: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviewers were asked for."""
    run = copied(begun, tmp_path_factory.mktemp("asked"))
    refine(forks, run)
    return Path(run.store.root)


@pytest.fixture(scope="module")
def ready(asked: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The panel is judged, and enough else to train on."""
    run = copied(asked, tmp_path_factory.mktemp("ready"))
    judge(run, lambda _: "reject", PairFilter(compared=True))
    refine(forks, run)
    judge(run, lambda _: "accept", PairFilter(task="removal"))
    return Path(run.store.root)


@pytest.fixture(scope="module")
def first(ready: Path, forks: Forks, told: Opinion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first round was trained and made its removals, which wait for reviewers."""
    run = copied(ready, tmp_path_factory.mktemp("first"))
    told["score"] = 8
    refine(forks, run)
    return Path(run.store.root)


@pytest.fixture(scope="module")
def promoted(first: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviewers liked the first round better."""
    run = copied(first, tmp_path_factory.mktemp("promoted"))
    assert judge(run, lambda _: "accept", PairFilter(compared=True)) == PANEL
    stand = refine(forks, run)
    assert stand["state"] == "promoted", stand
    return Path(run.store.root)


def write_tiny_profile(folder: Path, url: str) -> None:
    write_profile(folder, url, with_lora=False)


def copied(prepared: Path, folder: Path) -> RunFolder:
    shutil.copytree(prepared, folder / "run")
    return RunFolder.existing(folder / "run")


# --- the command, in processes that have the libraries in memory already ---


def words(run: RunFolder, *more: str, **settings: Any) -> list[str]:
    sets = [word for name, value in (SETTINGS | settings).items() for word in ("--set", f"{name}={value}")]
    return ["refine", run.store.root, "--json", *sets, *more]


def cli(forks: Forks, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run `ffpdata` to its end."""
    with tempfile.TemporaryDirectory() as folder:
        code = forks.run(as_command, words, folder)
        said = [(Path(folder) / name).read_text() for name in ("out", "err")]
    return subprocess.CompletedProcess(words, code, *said)


def as_command(words: list[str], folder: str) -> None:
    """Become `ffpdata`, as its console script does; what it prints goes to files."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(folder) / name, os.O_CREAT | os.O_WRONLY), number)
    os.chdir(ROOT)
    sys.argv = ["ffpdata", *words]
    main()


def refine(forks: Forks, run: RunFolder, *more: str, **settings: Any) -> dict[str, Any]:
    ended = cli(forks, words(run, *more, **settings))
    assert ended.returncode == 0, ended.stderr[-4000:]
    return dict(json.loads(ended.stdout))


def kill_when(forks: Forks, run: RunFolder, reached: Callable[[], bool], what: str) -> None:
    """Begin to refine and kill -9 as soon as something is so."""
    with tempfile.TemporaryDirectory() as folder:
        process = forks.start(as_command, words(run), folder)
        while not reached():
            assert process.is_alive(), f"it ended before {what}: {(Path(folder) / 'err').read_text()[-4000:]}"
            time.sleep(0.01)
        process.kill()
        process.join()


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


def test_without_verdicts_reviewers_are_asked_for(begun: Path, tmp_path: Path) -> None:
    run = copied(begun, tmp_path)
    command = [sys.executable, "-m", "ffpdata.cli", *words(run)]
    ended = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    stand = json.loads(ended.stdout)
    assert (stand["round"], stand["state"]) == (0, "waiting")
    assert any("3 more accepted removals" in line for line in stand["lines"])
    assert any(f"{PANEL} removals wait" in line for line in stand["lines"])
    base = targets(run)
    assert len(removals(base)) == len(others(base)) == SOURCES


def test_the_panel_is_judged_first_and_then_enough_to_train_on(asked: Path, forks: Forks, tmp_path: Path) -> None:
    run = copied(asked, tmp_path)
    assert judge(run, lambda _: "reject", PairFilter(compared=True)) == PANEL
    assert refine(forks, run)["state"] == "waiting"
    assert judge(run, lambda _: "accept", PairFilter(task="removal")) == SOURCES - PANEL


def test_a_round_that_is_killed_at_every_step_goes_on_to_the_next_need_of_reviewers(
    ready: Path, first: Path, forks: Forks, opinion: Opinion, tmp_path: Path
) -> None:
    run = copied(ready, tmp_path)
    base = targets(run)
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
        kill_when(forks, run, reached, what)
    stand = refine(forks, run)
    assert (stand["round"], stand["state"]) == (1, "waiting")
    assert any(f"{PANEL} removals wait" in line for line in stand["lines"])
    after = targets(run)
    assert removals(after).keys() == removals(base).keys()
    assert not set(removals(after).values()) & set(removals(base).values())
    assert others(after) == others(base)
    assert after == targets(RunFolder.existing(first)), "the model and the removals of a round that nobody killed"
    counts = made(run)
    assert len(counts) == before + SOURCES, "removals alone were made again"
    assert set(counts.values()) == {1}, "and each once"
    assert not training.exists()


def test_it_is_promoted_where_reviewers_like_it_better(first: Path, forks: Forks, tmp_path: Path) -> None:
    run = copied(first, tmp_path)
    before = targets(run)
    assert judge(run, lambda _: "accept", PairFilter(compared=True)) == PANEL
    stand = refine(forks, run)
    assert (stand["round"], stand["state"]) == (1, "promoted"), stand["lines"]
    assert stand["comparison"]["decided_by"] == "acceptance"
    assert targets(run) == before
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


def test_the_same_again_teaches_nothing(promoted: Path, forks: Forks, tmp_path: Path) -> None:
    run = copied(promoted, tmp_path)
    judge(run, lambda _: "reject", PairFilter(compared=True))
    stand = refine(forks, run)
    assert (stand["round"], stand["state"]) == (1, "promoted")
    assert any("1 more accepted" in line for line in stand["lines"])


def test_a_worse_round_is_not_promoted_and_its_removals_do_not_hold(
    promoted: Path, asked: Path, forks: Forks, opinion: Opinion, tmp_path: Path
) -> None:
    run = copied(promoted, tmp_path)
    before = targets(run)
    judge(run, lambda _: "reject", PairFilter(compared=True))
    refine(forks, run)
    judge(run, lambda _: "accept", PairFilter(task="removal"))
    opinion["score"] = 2
    folder = Path(run.store.root) / "refine" / "round-002"
    kill_when(forks, run, (folder / "lineage.json").exists, "its model was there")
    stand = refine(forks, run, **{"compare.pairs": 0})
    assert (stand["round"], stand["state"]) == (2, "not_promoted")
    assert stand["comparison"]["decided_by"] == "screen_score"
    assert targets(run) == before
    counts = made(run)
    assert len(counts) == SOURCES * 4
    assert set(counts.values()) == {1}, "going back computes nothing"
    roll_back(forks, run, to=asked)


def test_a_promoted_round_can_be_rolled_back(promoted: Path, asked: Path, forks: Forks, tmp_path: Path) -> None:
    run = copied(promoted, tmp_path)
    roll_back(forks, run, to=asked)
    ended = cli(forks, words(run, "--rollback"))
    assert ended.returncode == 2
    assert "nothing to roll back" in ended.stderr


def roll_back(forks: Forks, run: RunFolder, to: Path) -> None:
    """Go back behind the first round: what was there before holds again, and nothing is computed."""
    before = made(run)
    stand = refine(forks, run, "--rollback")
    assert (stand["round"], stand["state"]) == (1, "rolled_back")
    assert targets(run) == targets(RunFolder.existing(to))
    assert made(run) == before
    assert not (Path(run.store.root) / "refine" / "promoted.yaml").exists()
