"""What a run says while it goes on, and that it does not wait for a store that only wants to be told how it does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ffpdata.core.pipeline import Pipeline, StageEntry
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.runners import progress as progress_module
from ffpdata.runners.progress import PROGRESS_FILE, Progress
from ffpdata.runners.session import StartOptions, start, status
from ffpdata.runners.tables import status_text
from ffpdata.storage.store import Store
from tests.s3_server import s3_proxy


def test_a_slow_store_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(progress_module, "REMOTE_SECONDS", 0.0)
    with s3_proxy(monkeypatch) as proxy:
        store = Store("s3://bucket/run")
        with Progress(store, ["a"], quiet=True) as progress:
            progress.tick()
            assert store.exists(PROGRESS_FILE)
            proxy.rate, proxy.faults, proxy.slow_seconds = 1.0, ("slow",), 8.0
            begun = time.monotonic()
            progress.tick()
            assert time.monotonic() - begun < 5
            proxy.rate = 0.0
        assert not store.exists(PROGRESS_FILE)


class Said:
    """Start runs of three texts, two of them of one length, and return the lines about stages."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capfd = folder, capfd
        (folder / "in").mkdir()
        for text in ("alpha", "beta", "gamma"):
            (folder / "in" / f"{text}.txt").write_text(text)

    def __call__(self, stages: str = "") -> list[list[str]]:
        entries = [StageEntry(name=name.lower(), use=f"tests.toys:{name}") for name in ("Read", "Upper", "End")]
        pipeline = Pipeline(name="toys", track="t", stages=entries)
        start(RunFolder(self.folder / "run"), pipeline, str(self.folder / "in"), StartOptions(stages=stages))
        names = ("read", "upper", "end")
        return [line.split() for line in self.capfd.readouterr().err.splitlines() if line.startswith(names)]


@pytest.fixture
def said(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)  # a line after every item
    return Said(tmp_path, capfd)


def test_every_line_is_printed_once_and_says_what_was_there_before(said: Said) -> None:
    lines = [" ".join(line) for line in said()]
    assert len(lines) == len(set(lines))
    assert lines[-1] == "end 3/3 2 ok, 1 with the answer of an equal item"  # alpha and gamma have the same length
    assert not any("before" in line for line in lines)
    (said.folder / "in" / "epsilon.txt").write_text("epsilon")
    assert " ".join(said()[-1]) == "end 1/1 1 ok"
    (said.folder / "run/manifests/inputs").rename(said.folder / "gone")  # so that all inputs are walked again
    assert " ".join(said()[-1]) == "end 4/4 4 kept from before"


@pytest.mark.parametrize(("stages", "shown"), [("..read", {"read"}), ("upper", {"upper"}), ("", {"upper", "end"})])
def test_only_stages_that_were_asked_for_are_shown(said: Said, stages: str, shown: set[str]) -> None:
    if stages != "..read":
        said("..read")
    assert {line[0] for line in said(stages)} - {"read"} == shown - {"read"}


def test_times_of_the_table_are_rounded(said: Said) -> None:
    said()
    state = status(RunFolder(said.folder / "run"))
    taken = [seconds for stage in state.stages.values() for seconds in stage["slowest"].values()]
    assert taken == [round(seconds, 4) for seconds in taken]
    state.stages["upper"]["slowest"] = {"id-alpha": 0.37984307600004286}
    assert "  0.38" in status_text(state)
