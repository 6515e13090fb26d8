"""Classes of a script: they work in its process and on its Ray workers; another process is told the remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixture_run import copy_run

CLASSES = """
from pathlib import Path

import ffpdata


class Read(ffpdata.Stage):
    name = "read"
    reads, fan_out = ("path",), True
    writes = {"text": str}

    def expand(self, row):
        text = Path(row["path"]).read_text()
        return [ffpdata.Child(f"id-{text}", {"text": text}, source_id=f"id-{text}")]


class Marker:
    name, version = "marker", 1

    class Settings(ffpdata.BackendSettings):
        mark: str = "!"

    def __init__(self, spec):
        self.settings = self.Settings(**spec.settings)

    def mark(self, text):
        return text + self.settings.mark

    def close(self):
        pass


class Shout(ffpdata.Stage):
    name = "shout"
    reads, models = ("text",), ("marker",)
    writes = {"loud": ffpdata.Artifact("txt"), "length": int}

    class Settings(ffpdata.StageSettings):
        longest: int = 5

    def process(self, row):
        if len(row["text"]) > self.settings.longest:
            raise ffpdata.Reject("too_long", f"{len(row['text'])} letters, at most {self.settings.longest}")
        target = row.new_file("loud")
        target.write_text(self.model("marker").mark(row["text"].upper()))
        return {"loud": target, "length": len(row["text"])}
"""

START = """
import sys

if __name__ == "__main__":
    pipeline = ffpdata.Pipeline.of(
        [Read, Shout(longest=6)], name="shout", models={"marker": ffpdata.ModelSpec.of(Marker, settings={"mark": "?"})}
    )
    run = ffpdata.run(pipeline, "in", "run", runner=sys.argv[1])
    print(run.result.stages["shout"]["ok"], run.result.stages["shout"]["reasons"])
    print(sorted(path.read_text() for path in Path("run/artifacts/loud").glob("*/*.txt")))
    print(run.retry(reason="too_long", runner=sys.argv[1]).stages["shout"]["reasons"])
    print(sorted(run.sql("select attempt from shout_history where status = 'rejected'").to_pydict()["attempt"]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for text in ("alpha", "beta", "gigantic"):
        (tmp_path / "in" / f"{text}.txt").write_text(text)
    return tmp_path


def python(folder: Path, *words: Any, code: int = 0) -> str:
    done = subprocess.run([sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("runner", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_script_runs_its_own_classes(folder: Path, runner: str) -> None:
    (folder / "script.py").write_text(CLASSES + START)
    said = python(folder, "script.py", runner)
    assert said.splitlines()[:3] == ["2 {'too_long': 1}", "['ALPHA?', 'BETA?']", "{'too_long': 1}"]


def test_another_process_is_told_what_to_do(folder: Path) -> None:
    (folder / "script.py").write_text(CLASSES + START)
    python(folder, "script.py", "inline")
    [*_, start] = yaml.safe_load_all((folder / "run/run.yaml").read_text())
    assert start["not_importable"] == ["__main__:Read", "__main__:Shout", "__main__:Marker"]
    assert "too_long 1" in python(folder, "-m", "ffpdata", "status", "run")
    assert "too_long" in python(folder, "-m", "ffpdata", "sql", "run", "select reason from shout")
    said = python(folder, "-m", "ffpdata", "retry", "run", code=1)
    assert said.startswith("ffpdata: "), said
    assert "'__main__:Read' was defined in a notebook or script" in said
    assert "save the class in a file, e.g. read.py, name it read:Read in the pipeline" in said


def test_an_export_is_told_before_it_writes(folder: Path) -> None:
    begun = copy_run(folder / "run").store.local_path("run.yaml")
    begun.write_text(begun.read_text().replace("ffpdata.stages.caption:Caption", "__main__:Caption"))
    said = python(folder, "-m", "ffpdata", "export", "run", "out", code=1)
    assert "'__main__:Caption' was defined in a notebook or script" in said
    assert not (folder / "out").exists()


def test_moving_the_classes_into_a_file_redoes_nothing(folder: Path) -> None:
    (folder / "script.py").write_text(CLASSES + START)
    python(folder, "script.py", "inline")
    (folder / "shouting.py").write_text(CLASSES)
    (folder / "script.py").write_text("import ffpdata\nfrom pathlib import Path\nfrom shouting import *\n" + START)
    said = python(folder, "script.py", "inline")
    assert "2 {'too_long': 1}" in said
    count = "import ffpdata; print(ffpdata.open_run('run').sql('select * from shout_history').num_rows)"
    assert python(folder, "-c", count).strip() == "5"  # three outcomes, and the rejected one retried in both starts
