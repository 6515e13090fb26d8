"""Names of files survive whatever the locale; one that no table can hold is one row, and the others go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ffpdata.api.run import open_run
from ffpdata.core import file_names
from ffpdata.core.errors import FatalError, UsageError
from ffpdata.core.file_names import is_text, path_of, printable, text_of
from ffpdata.core.sections import InputSettings
from ffpdata.inputs.listing import list_inputs
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.codec import write_image

NAMES = [b"plain.png", 'café ü "x" 犬.png'.encode(), b"caf\xe9.png", b"sub \xff/in.png"]
SHOWN = {
    "plain.png": "ok",
    'café ü "x" 犬.png': "ok",
    "caf\\xe9.png": "name_not_utf8",
    "sub \\xff/in.png": "name_not_utf8",
}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PIPELINE = """
name: names
track: t
profile: cpu
stages: [source]
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images whose names are bytes."""
    root = tmp_path_factory.mktemp("names")
    (root / "names.yaml").write_text(PIPELINE)
    for number, name in enumerate(NAMES):
        path = os.path.join(os.fsencode(root), "é".encode(), name)  # noqa: PTH118 - bytes
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        write_image(root / "one.png", np.full((8, 8, 3), number, np.uint8))
        os.rename(root / "one.png", path)  # noqa: PTH104
    return root


def python(*words: str | bytes, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    root = str(Path(__file__).parents[1])
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=known | {"PYTHONPATH": root} | environment,
        capture_output=True,
        timeout=120,
        check=False,
    )


def rows(run: Path) -> dict[str, str]:
    found = open_run(run).sql("select path, coalesce(reason, status) as s from source").to_pylist()
    return {row["path"]: row["s"] for row in found}


def test_the_command_in_a_c_locale(inputs: Path) -> None:
    words = ["-m", "ffpdata", "run", "names.yaml", "--input", "é", "--run", "run é", "--quiet"]
    done = python(*(word.encode() for word in words), cwd=inputs, **C_LOCALE)
    assert done.returncode == 0, done.stderr.decode()
    assert rows(inputs / "run é") == SHOWN
    asked = [b"sql", "run é".encode(), b"select path from source order by path", b"--json"]
    done = python(b"-m", b"ffpdata", *asked, cwd=inputs, **C_LOCALE)
    assert {row["path"] for row in json.loads(done.stdout)} == set(SHOWN)
    done = python(b"-m", b"ffpdata", b"report", "run é".encode(), cwd=inputs, **C_LOCALE)
    assert "run é/report/index.html" in done.stdout.decode(), done.stderr.decode()
    page = (inputs / "run é/report/index.html").read_text(encoding="utf-8")
    assert "caf\\xe9.png" in page


def test_a_program_in_a_c_locale(inputs: Path) -> None:
    """The Python interface finds the same items, of the same names, as in a UTF-8 locale."""
    code = """
import json, sys, ffpdata
from ffpdata.core.sections import InputSettings
from ffpdata.inputs.listing import list_inputs
assert sys.getfilesystemencoding() == 'ascii'
run = ffpdata.run('names.yaml', sys.argv[1], sys.argv[2])
found = run.sql('select path, coalesce(reason, status) as s from source').to_pylist()
items = list_inputs(sys.argv[1], InputSettings())
print(json.dumps([{row['path']: row['s'] for row in found}, [item.item_id for item in items]]))
"""
    done = python("-c", code, "é".encode(), "run ü".encode(), cwd=inputs, **C_LOCALE)
    assert done.returncode == 0, done.stderr.decode()
    found, ids = json.loads(done.stdout)
    assert found == SHOWN
    assert ids == [item.item_id for item in list_inputs(str(inputs / "é"), InputSettings())]


def test_a_name_on_the_command_line_that_is_no_text(inputs: Path) -> None:
    words = [b"-m", b"ffpdata", b"run", b"names.yaml", b"--input", "é".encode(), b"--run", b"run\xff"]
    for environment in ({"LC_ALL": "C.UTF-8"}, C_LOCALE):
        done = python(*words, cwd=inputs, **environment)
        assert (done.returncode, done.stderr) == (
            2,
            b"ffpdata: 'run\\xff': this name is not UTF-8: rename the file or folder\n",
        )


def test_a_folder_that_is_no_text(inputs: Path) -> None:
    with pytest.raises(FatalError, match=r"/\\xff': the folder's name is not UTF-8: rename it"):
        RunFolder(os.fsdecode(os.fsencode(inputs) + b"/\xff"))
    with pytest.raises(UsageError, match=r"the name of the folder '.*/sub \\xff' is not UTF-8: rename it"):
        list_inputs(os.fsdecode(os.fsencode(inputs) + "/é".encode() + b"/sub \xff"), InputSettings())


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_name_is_the_same_text_in_every_locale(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    class Os:
        """File names as Python has them in another locale."""

        @staticmethod
        def fsencode(name: str) -> bytes:
            return name.encode(encoding, "surrogateescape")

        @staticmethod
        def fsdecode(name: bytes) -> str:
            return name.decode(encoding, "surrogateescape")

    monkeypatch.setattr(file_names, "os", Os)
    for name in NAMES:
        text = text_of(Os.fsdecode(name))
        assert text == name.decode("utf-8", "surrogateescape")
        assert Os.fsencode(path_of(text)) == name
    assert text_of("犬") == "犬"


def test_what_is_shown_of_a_name() -> None:
    assert printable("a\udcff\ud800é\\") == "a\\xff\\ud800é\\"
    assert is_text(printable("\udcff\ud800"))
    assert not is_text("a\udcff")
