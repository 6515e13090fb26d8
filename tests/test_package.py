"""The package as a library: what `import ffpdata` offers, what it costs, and what the wheel carries."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ffpdata

ROOT = Path(ffpdata.__file__).parents[1]


def test_import_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import ffpdata; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=ROOT)
    others = {name for name in done.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert others == {"ffpdata"}, done.stderr


def test_a_stage_of_ones_own_loads_no_engine() -> None:
    code = "import sys; from ffpdata import Stage, Artifact, Reject; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not {"ray", "torch", "duckdb", "cv2", "pyarrow", "av"} & set(done.stdout.split()), done.stderr


@pytest.mark.parametrize("name", ffpdata.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(ffpdata, name).__name__ == name
    assert name in dir(ffpdata)


def test_an_editor_sees_the_same_names() -> None:
    tree = ast.parse(Path(ffpdata.__file__).read_text())
    typing_only = next(node for node in tree.body if isinstance(node, ast.If))
    found = {
        alias.name: statement.module
        for statement in typing_only.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert found == ffpdata._MODULE
    assert sorted(found) == sorted(ffpdata.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'ffpdata' has no attribute 'runn'"):
        ffpdata.runn  # noqa: B018


@pytest.mark.parametrize("module", ["ffpdata", "ffpdata.cli"])
def test_the_command_as_a_module(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == f"ffpdata {ffpdata.__version__}", done.stderr


def test_the_wheel_says_that_it_is_typed(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"ffpdata/py.typed", "ffpdata/__main__.py", "ffpdata/api/run.py", "ffpdata/cli/__init__.py"} <= names
    assert "ffpdata/_data/pipelines/local_editing.yaml" in names
    assert not [name for name in names if name.startswith(("examples/", "tests/"))]
