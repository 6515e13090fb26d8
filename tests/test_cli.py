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
    assert code == cli.EXIT_FATAL
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
    assert code == cli.EXIT_FATAL
    assert " ".join(said.split()).startswith(f"ffpdata: {lock}: expected a lock file, found a folder. Move it away")


def test_wrong_sql_is_the_users(tmp_path: Path, command: Command) -> None:
    run = begun(tmp_path / "run", tmp_path / "in")
    code, said = command("sql", run.store.root, "select nothing from items")
    assert (code, said.partition(":")[0]) == (cli.EXIT_USAGE, "ffpdata")
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
            assert code == cli.EXIT_FATAL
            assert "the object store has not answered as it should" in said
            assert len(said.splitlines()) == 1


def test_a_run_folder_that_may_not_be_read(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(tmp_path / "run", tmp_path / "in")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    code, said = command("status", run.store.root)
    assert (code, said) == (
        cli.EXIT_FATAL,
        f"ffpdata: {run.store.root}/run.yaml: cannot be read (Permission denied). Make it readable for this user.\n",
    )


def test_retry_stays_within_the_stages_of_the_start(tmp_path: Path, command: Command) -> None:
    run = begun(tmp_path / "run", tmp_path / "in", stages="..read")
    assert command("retry", run.store.root, "--quiet")[0] == 0
    assert toys.Upper.calls == []
    begun(tmp_path / "run", tmp_path / "in")
    command("retry", run.store.root, "--reason", "too_bad", "--quiet")
    assert toys.Upper.calls == ["alpha", "reject", "reject"]


@pytest.mark.parametrize(("option", "value"), [("--stage", "curate"), ("--reason", "near_duplicate")])
def test_retry_says_that_curation_cannot_be_retried(tmp_path: Path, command: Command, option: str, value: str) -> None:
    run = begun(tmp_path / "run", tmp_path / "in")
    names = ("item_id", "entered_id", "source_id", "track", "upstream")
    [pair] = [row for row in run.manifest.read("curate").to_pylist() if row["item_id"] == "id-alpha"]
    row = {name: pair[name] for name in names} | {"stage": "curate", "key": "k", "attempt": 1, "seconds": 0.0}
    run.manifest.append("curate", [row | {"status": "rejected", "reason": "near_duplicate"}], COMMON)
    code, said = command("retry", run.store.root, option, value)
    assert code == cli.EXIT_USAGE
    assert f"{option} '{value}': curation decides anew at every start" in said


def test_a_wrong_setting_of_a_model_is_told_before_anything_runs(tmp_path: Path, command: Command) -> None:
    (tmp_path / "a.txt").write_text("alpha")
    wrong = '{"backend": "ffpdata.models.vace:Vace", "model": "./vace", "settings": {"step": 4}}'
    words = ["run", "local_editing", "--input", str(tmp_path), "--run", str(tmp_path / "run")]
    code, said = command(*words, "--set", f"models.remover={wrong}")
    assert code != 0
    assert said.strip() == "ffpdata: settings of ffpdata.models.vace:Vace: no entry 'step'; did you mean 'steps'?"
    assert not (tmp_path / "run").exists()
