"""The tests' own tools: folders that are built once, and marks that are read from imports."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import marks, shared

ROOT = Path(__file__).parents[1]


def test_what_many_processes_need_is_built_by_one_of_them(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from tests import shared
shared.use(Path({str(tmp_path)!r}))
def build(folder):
    with (Path({str(tmp_path)!r}) / "builders").open("a") as stream:
        stream.write("x")
    time.sleep(0.3)
    (folder / "whole").touch()
assert (shared.built_once("it", build) / "whole").exists()
"""
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert (tmp_path / "builders").read_text() == "x"


def test_what_failed_is_tried_again_from_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared, "_base", tmp_path)

    def fails(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("no luck")

    with pytest.raises(OSError, match="no luck"):
        shared.built_once("it", fails)
    made = shared.built_once("it", lambda folder: (folder / "whole").touch())
    assert [path.name for path in made.iterdir()] == ["whole"]
    began = time.monotonic()
    assert shared.built_once("it", fails) == made, "what is there is not built again"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("runners/test_ray.py", {"ray"}),
        ("runners/test_job.py", {"ray"}),
        ("models/test_vace.py", {"models"}),
        ("models/test_production.py", {"models", "ray"}),
        ("refine/test_rounds.py", {"models"}),
        ("storage/test_object_store.py", {"slow"}),
        ("media/test_metrics.py", set()),
        ("models/vlm/test_answers.py", set()),
        ("stages/test_segment.py", set()),
    ],
)
def test_a_file_needs_what_it_and_its_helpers_import(name: str, needed: set[str]) -> None:
    assert marks.of_file(ROOT / "tests" / name) == needed


def test_each_stage_has_tests_of_its_own() -> None:
    stages = {path.stem.removeprefix("_") for path in (ROOT / "ffpdata" / "stages").glob("*.py")} - {"_init__"}
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "stages").glob("test_*.py")}
    assert stages == tested
