"""What a command says when something is in its way: one message and an exit code, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ffpdata import cli
from ffpdata.core.config import Pipeline
from ffpdata.core.pipeline import StageEntry
from ffpdata.manifests.manifest import COMMON
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.runners.session import StartOptions, start
from ffpdata.storage import object_store, scratch
from tests import toys
from tests.s3_server import s3_proxy

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command and return its exit code and what it printed."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ffpdata", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out + said.err

    return run


def begun(root: Path | str, source: Path, stages: str = "") -> RunFolder:
    """A finished run of two inputs, one of them rejected."""
    toys.Upper.calls.clear()
    source.mkdir(exist_ok=True)
    for text in ("alpha", "reject"):
        (source / f"{text}.txt").write_text(text)
    run = RunFolder(root)
    entries = [StageEntry(name=name.lower(), use=f"tests.toys:{name}") for name in ("Read", "Upper", "End")]
    pipeline = Pipeline(name="toys", track="t", stages=entries)
    start(run, pipeline, str(source), StartOptions(stages=stages, quiet=True))
    return run


COMMANDS = [["status"], ["sql", "select * from items"], ["report"], ["export", "OUT"], ["retry", "--quiet"]]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_damaged_part_is_one_message(tmp_path: Path, command: Command, words: list[str]) -> None:
    run = begun(tmp_path / "run", tmp_path / "in")
    [part] = run.manifest.parts("upper")
    run.store.write(part, run.store.read(part)[:100])
    name, *more = (word if word != "OUT" else str(tmp_path / "out") for word in words)
    code, said = command(name, run.store.root, *more)
    assert code == cli.ExitCode.FATAL
    assert f"ffpdata: the manifests of {run.store.root} cannot be read:" in said
    assert part in said


@pytest.mark.parametrize("words", [["status"], ["retry", "--quiet"]], ids=lambda words: words[0])
def test_a_lock_that_cannot_be_opened_is_one_message(tmp_path: Path, command: Command, words: list[str]) -> None:
    run = begun(tmp_path / "run", tmp_path / "in")
    lock = tmp_path / "run/run.lock"
    lock.unlink()
    lock.mkdir()
    name, *more = words
    code, said = command(name, run.store.root, *more)
    assert code == cli.ExitCode.FATAL
    assert " ".join(said.split()).startswith(f"ffpdata: {lock}: expected a lock file, found a folder. Move it away")


def test_wrong_sql_is_the_users(tmp_path: Path, command: Command) -> None:
    run = begun(tmp_path / "run", tmp_path / "in")
    code, said = command("sql", run.store.root, "select nothing from items")
    assert (code, said.partition(":")[0]) == (cli.ExitCode.USAGE, "ffpdata")
    assert "SQL: Binder Error" in said


def test_status_of_a_store_that_is_away(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_proxy(monkeypatch) as proxy:
        run = begun("s3://bucket/run", tmp_path / "in")
        monkeypatch.setattr(object_store, "OUTAGE_SECONDS", 0.2)
        monkeypatch.setattr(object_store, "REQUEST_ATTEMPTS", 1)
        monkeypatch.setattr(scratch, "_process", {})
        for only in ("/bucket/run/manifests/", ""):
            proxy.only, proxy.rate, proxy.faults = only, 1.0, ("503",)
            code, said = command("status", run.store.root)
            assert code == cli.ExitCode.FATAL
            assert "the object store has not answered as it should" in said
            assert len(said.splitlines()) == 1


def test_a_run_folder_that_may_not_be_read(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(tmp_path / "run", tmp_path / "in")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    code, said = command("status", run.store.root)
    assert (code, said) == (
        cli.ExitCode.FATAL,
        f"ffpdata: {run.store.root}/run.yaml: cannot be read (Permission denied). Make it readable for this user.\n",
    )


def test_retry_stays_within_the_stages_of_the_start(tmp_path: Path, command: Command) -> None:
    run = begun(tmp_path / "run", tmp_path / "in", stages="..read")
    assert command("retry", run.store.root, "--quiet")[0] == 0
    assert toys.Upper.calls == []
    begun(tmp_path / "run", tmp_path / "in")
    command("retry", run.store.root, "--reason", "too_bad", "--quiet")
    assert toys.Upper.calls == ["alpha", "reject", "reject"]


def test_retry_says_that_it_had_nothing_to_do(tmp_path: Path, command: Command) -> None:
    run = begun(tmp_path / "run", tmp_path / "in")
    nothing = "Nothing was tried again: no item failed"
    assert nothing in command("retry", run.store.root, "--quiet")[1]
    assert f"{nothing} and no outcome has lost a file" in command("retry", run.store.root, "--quiet", "--lost")[1]
    assert nothing not in command("retry", run.store.root, "--quiet", "--reason", "too_bad")[1]


PIPELINE = """
name: codes
track: t
stages: ["tests.toys:Read", "tests.toys:Upper", "ends:Ends"]
"""

ENDS = """
import os, signal
from ffpdata import Stage


class Ends(Stage):
    name, version = "ends", 1
    reads = ("text",)
    writes = {"number": int}

    def process(self, row):
        if row["text"] == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        return {"number": 1 // (row["text"] != "fail")}
"""


def test_every_exit_code_by_a_command_that_ends_with_it(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("codes.yaml").write_text(PIPELINE)
    Path("ends.py").write_text(ENDS)
    Path("wrong.yaml").write_text("stages: 3")

    def ran(text: str, *more: str) -> int:
        Path(text).mkdir()
        Path(text, "1.txt").write_text(text)
        Path(text, "2.txt").write_text(f"{text} 2")
        return command("run", "codes.yaml", "--input", text, "--run", f"runs/{text}", "-q", *more)[0]

    code = cli.ExitCode
    found = {
        "a run": (ran("good"), code.OK),
        "a run with failed items": (ran("fail"), code.OK),
        "retry with nothing to do": (command("retry", "runs/good", "-q")[0], code.OK),
        "no run folder": (command("status", "good")[0], code.FATAL),
        "no export": (command("verify", "good")[0], code.FATAL),
        "nothing to export": (command("export", "runs/good", "out")[0], code.FATAL),
        "no such option": (command("status", "runs/good", "--nothing")[0], code.USAGE),
        "no such command": (command("nothing")[0], code.USAGE),
        "no such input": (command("run", "codes.yaml", "--input", "gone", "--run", "r")[0], code.USAGE),
        "a wrong file": (command("run", "wrong.yaml", "--input", "good", "--run", "r")[0], code.USAGE),
        "a wrong setting": (
            command("run", "codes.yaml", "--input", "good", "--run", "r", "--set", "a=1")[0],
            code.USAGE,
        ),
        "wrong SQL": (command("sql", "runs/good", "select")[0], code.USAGE),
        "no such profile": (command("doctor", "--profile", "gone")[0], code.USAGE),
        "--strict": (command("retry", "runs/fail", "-q")[0], code.OK),
        "failed items": (command("run", "codes.yaml", "--input", "fail", "--run", "runs/fail", "-q", "--strict")[0], 3),
        "interrupted": (ran("interrupt"), code.INTERRUPTED),
    }
    assert {what: (int(got), int(want)) for what, (got, want) in found.items() if got != want} == {}
    assert {want for _, want in found.values()} == set(code)


@pytest.mark.parametrize(("option", "value"), [("--stage", "curate"), ("--reason", "near_duplicate")])
def test_retry_says_that_curation_cannot_be_retried(tmp_path: Path, command: Command, option: str, value: str) -> None:
    run = begun(tmp_path / "run", tmp_path / "in")
    names = ("item_id", "entered_id", "source_id", "track", "upstream")
    [pair] = [row for row in run.manifest.read("curate").to_pylist() if row["item_id"] == "id-alpha"]
    row = {name: pair[name] for name in names} | {"stage": "curate", "key": "k", "attempt": 1, "seconds": 0.0}
    run.manifest.append("curate", [row | {"status": "rejected", "reason": "near_duplicate"}], COMMON)
    code, said = command("retry", run.store.root, option, value)
    assert code == cli.ExitCode.USAGE
    assert f"{option} '{value}': curation decides anew at every start" in said


def test_a_wrong_setting_of_a_model_is_told_before_anything_runs(tmp_path: Path, command: Command) -> None:
    (tmp_path / "a.txt").write_text("alpha")
    wrong = '{"backend": "ffpdata.models.vace:Vace", "model": "./vace", "settings": {"step": 4}}'
    words = ["run", "local_editing", "--input", str(tmp_path), "--run", str(tmp_path / "run")]
    code, said = command(*words, "--set", f"models.remover={wrong}")
    assert code != 0
    why = "settings of ffpdata.models.vace:Vace: no entry 'step'; did you mean 'steps'?"
    assert said.strip() == f"ffpdata: --set models.remover={wrong}: {why}"
    assert not (tmp_path / "run").exists()


YAML = "close every bracket, brace and quote, and quote what a text must not lose"
REMOVER = "settings of ffpdata.models.classical.remover:TemporalFill"
SECTION = "must be a section with entries of its own"
NAME_ONE = "name a setting of the stage, e.g. --set ingest.min_side=480"
SPLITS = "the fractions must be at least 0 and one of them above it"

WRONG_SETTINGS = {
    "clip.frames=abc": "clip.frames: must be a whole number (got 'abc')",
    "clip.fps=x": "clip.fps: must be a number (got 'x')",
    "clip=5": f"clip: {SECTION} (got 5)",
    "clip.frmes=4": "unknown entry 'clip.frmes'; did you mean 'frames'?",
    "max_attempts=0": "max_attempts: must be at least 1 (got 0)",
    "curate.splits={train: -1}": f"curate.splits: {SPLITS} (got {{'train': -1}})",
    "curate.variants=besst": "curate.variants: must be 'best' or 'all' (got 'besst')",
    "screen.min_score=2000-01-01": "stages.screen.min_score: must be a number (got 2000-01-01)",
    "propose.edits=[{task: swap}]": "stages.propose.edits.0.variant: is missing",
    "resources=3": f"resources: {SECTION} (got 3)",
    "resources.scren.gpus=1": "resources: no stage 'scren'; did you mean 'screen'?",
    "resources.screen.gpus=-1": "resources.screen.gpus: must be at least 0 (got -1)",
    "models.remover=3": f"models.remover: {SECTION} (got 3)",
    "models.remover.settings.grow_pix=1": f"{REMOVER}: no entry 'grow_pix'; did you mean 'grow_px'?",
    "ingest.min_side=[1": f"the value '[1' is not valid YAML: {YAML}",
    "ingest=5": NAME_ONE,
    "stages=5": NAME_ONE,
}


@pytest.mark.parametrize("setting", WRONG_SETTINGS)
def test_a_wrong_setting_is_named_as_it_was_given(tmp_path: Path, command: Command, setting: str) -> None:
    """By its `--set`, not by a line of a file that somebody else wrote, and in words of ours."""
    (tmp_path / "a.txt").write_text("alpha")
    words = ["run", "local_editing", "--input", str(tmp_path), "--run", str(tmp_path / "run")]
    code, said = command(*words, "--set", setting)
    assert code == cli.ExitCode.USAGE
    assert said.strip().replace("'", "") == f"ffpdata: --set {setting}: {WRONG_SETTINGS[setting]}".replace("'", "")
    assert not (tmp_path / "run").exists()
