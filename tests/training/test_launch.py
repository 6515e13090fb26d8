"""Modules run in processes of their own: small ones of these tests, without the libraries of the large models."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.training.launch import launch

MODULES = {
    "talks": """
        print("to the log alone")
        report_progress("one")
        report_progress("two")
    """,
    "refuses": """
        report_error(config, ConfigError("no such layer"))
        sys.exit(1)
    """,
    "breaks": """
        for line in range(50):
            print("line", line)
        sys.exit(7)
    """,
    "is_killed": "os.kill(os.getpid(), 9)",
    "lives_on": """
        config.with_name("pid").write_text(str(os.getpid()))
        time.sleep(120)
    """,
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    said = []

    def start(name):
        write_module(tmp_path, name)
        launch(f"module_{name}", tmp_path / "job.json", 1, tmp_path / "log", said.append)
        return said

    return start


def write_module(folder: Path, name: str) -> None:
    lines = [
        "import os, sys, time",
        "from pathlib import Path",
        "from ffpdata.core.errors import ConfigError",
        "from ffpdata.training.launch import report_error, report_progress",
        "config = Path(sys.argv[1])",
        *(line.removeprefix("        ") for line in MODULES[name].strip("\n").splitlines()),
    ]
    (folder / f"module_{name}.py").write_text("\n".join(lines))


def test_progress_is_told_and_all_is_logged(run, tmp_path):
    assert run("talks") == ["one", "two"]
    assert (tmp_path / "log").read_text().splitlines() == ["to the log alone", "ffpdata| one", "ffpdata| two"]
    run("talks")
    assert len((tmp_path / "log").read_text().splitlines()) == 6


def test_errors_of_ours_come_through_and_are_not_told_twice(run, tmp_path):
    with pytest.raises(ConfigError, match=r"^no such layer$"):
        run("refuses")
    with pytest.raises(FatalError, match="exit code 7"):
        run("breaks")


def test_other_ends_show_the_end_of_the_log(run):
    with pytest.raises(FatalError, match=r"exit code 7; the end of .*log:\n    line 30\n(.|\n)*    line 49$"):
        run("breaks")
    with pytest.raises(FatalError, match="exit code 137"):
        run("is_killed")


def test_it_ends_with_the_process_that_waits_for_it(tmp_path):
    write_module(tmp_path, "lives_on")
    code = (
        "import sys; from pathlib import Path; from ffpdata.training.launch import launch\n"
        f"sys.path.insert(0, {str(tmp_path)!r}); folder = Path({str(tmp_path)!r})\n"
        "launch('module_lives_on', folder / 'job.json', 1, folder / 'log', print)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as owner:
        wait_until((tmp_path / "pid").is_file)
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        owner.kill()
    wait_until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
