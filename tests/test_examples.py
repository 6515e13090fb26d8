"""The examples as a user has them: each folder copied somewhere, its commands given there."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import ffpdata
from ffpdata.media.codec import write_video
from tests import fixture_run
from tests.openai_server import Say, Server

EXAMPLES = Path(ffpdata.__file__).parents[1] / "examples"
CLIP = f"clip={{width: {fixture_run.WIDTH}, height: {fixture_run.HEIGHT}, frames: {fixture_run.FRAMES}}}"
SMALL = ("--set", CLIP, "--set", "ingest.min_side=64")
PEOPLE = 2
CROWD = 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the examples with a folder of two clips beside them."""
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "clips").mkdir()
    for number in range(2):
        write_video(tmp_path / "clips" / f"{number}.mp4", fixture_run.source(number), fixture_run.FPS)
    return tmp_path


def command(example: Path, *words: Any, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ffpdata", *map(str, words)],
        cwd=example,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.py")), ids=lambda path: path.name)
def test_it_is_short(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    lines = [line for line in path.read_text().splitlines()[1:] if line.strip()]
    assert "\n" not in str(docstring)
    assert len(lines) <= 20


def test_the_readme_names_every_file() -> None:
    text = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.rglob("*.*"):
        if path.name != "README.md" and path.suffix in (".py", ".ipynb"):
            assert path.name in text, path


@pytest.mark.slow
def test_a_stage_of_ones_own(folder: Path) -> None:
    example = folder / "examples" / "my_stage"
    said = command(example, "run", "blur.yaml", "--input", "../../clips", "--run", "run", "-q", *SMALL)
    assert "2 pairs" in said
    rows = json.loads(command(example, "sql", "run", "select sharpness, blur_seconds from items", "--json"))
    assert all(row["sharpness"] > 2 and row["blur_seconds"] > 0 for row in rows)
    command(example, "retry", "run", "-q")
    command(example, "report", "run")
    command(example, "export", "run", "out")
    assert re.search(r"2 pairs in \d shards? read, no problems", command(example, "verify", "out"))
    for pair in ffpdata.pairs(example / "out"):
        assert pair["target"].std() < pair["source"].std()
        assert pair["instruction"] == "Make the whole picture softly blurred"
    command(
        example, "run", "blur.yaml", "--input", "../../clips", "--run", "run", "-q", *SMALL, "--set", "blur.radius=5"
    )
    assert json.loads(command(example, "sql", "run", "select count(*) as n from blur_history", "--json")) == [{"n": 4}]


@pytest.mark.ray
def test_a_stage_of_ones_own_on_ray(folder: Path) -> None:
    example = folder / "examples" / "my_stage"
    words = ("run", "blur.yaml", "--input", "../../clips", "--run", "run", "--runner", "ray", "-q", *SMALL)
    assert "2 pairs" in command(example, *words)


@pytest.mark.slow
def test_a_back_end_of_ones_own(folder: Path) -> None:
    example = folder / "examples" / "my_model"
    loaded = ffpdata.load_pipeline("local_editing", f"cpu,{example / 'telea.yaml'}")
    assert loaded.models["remover"].backend == "telea:Telea"
    assert loaded.models["segmenter"] == ffpdata.load_pipeline("local_editing", "cpu").models["segmenter"]
    table = folder / "clips" / "clips.csv"
    mask = fixture_run.mask(0)[0].nonzero()
    box = f"{mask[1].min()} {mask[0].min()} {mask[1].max() + 1} {mask[0].max() + 1}".replace(" ", ";")
    table.write_text(f"path,object,box\n0.mp4,square,{box}\n")
    edits = "propose.edits=[{task: removal, variant: mask}]"
    words = ("run", "local_editing", "--profile", "cpu,telea.yaml", "--input", table, "--run", "run", "-q", *SMALL)
    command(example, *words, "--set", edits, "--stages", "..synthesize")
    query = "select status, error, synthesize_model, target_video from items"
    [row] = json.loads(command(example, "sql", "run", query, "--json"))
    assert row["synthesize_model"] == "telea@1", row
    assert (example / "run" / row["target_video"]).stat().st_size > 1000


@pytest.fixture
def server() -> Iterator[Server]:
    counts = iter([PEOPLE, CROWD])
    with Server(lambda _: Say(json.dumps({"people": next(counts)})), models=("tiny",)) as server:
        yield server


def test_a_question_of_ones_own(folder: Path, server: Server) -> None:
    example = folder / "examples" / "my_question"
    served = (f"models.vision_language.runtime={{endpoint: '{server.url}', served_model: tiny}}",)
    words = ("run", "people.yaml", "--input", "../../clips", "--run", "run", "-q", *SMALL)
    said = command(example, *words, "--set", *served)
    assert "crowded 1" in said
    rows = json.loads(
        command(example, "sql", "run", "select status, people, error from crowd order by people", "--json")
    )
    assert rows == [
        {"status": "ok", "people": PEOPLE, "error": None},
        {"status": "rejected", "people": CROWD, "error": "5 people, at most 3"},
    ]
    text = yaml.safe_load((example / "crowd.yaml").read_text())["text"]
    asked = json.dumps(server.requests[0])
    assert len(server.requests) == 2
    assert json.dumps(text.splitlines()[0])[1:-1] in asked
    assert "crowd" in asked


@pytest.mark.slow
def test_the_notebook(tmp_path: Path) -> None:
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells), "strip the outputs"
    sources = ["".join(cell["source"]) for cell in cells]
    # As a kernel does: cell after cell in the main module, the value of a last expression shown.
    kernel = (
        "import ast, json, sys\n"
        "for source in json.load(sys.stdin):\n"
        "    tree = ast.parse(source)\n"
        "    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None\n"
        "    exec(compile(tree, 'cell', 'exec'), globals())\n"
        "    if last:\n"
        "        print(repr(eval(compile(ast.Expression(last.value), 'cell', 'eval'), globals())))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", kernel], input=json.dumps(sources), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "posterize: ok in" in done.stdout
    assert ", flat: " in done.stdout
    assert re.search(r"4 pairs in \d shards? read, no problems\n4\n", done.stdout)
    assert (
        "'Turn the clip into a poster of few colours', (17, 192, 320, 3), (17, 192, 320, 3), (192, 320, 3)"
        in done.stdout
    )
