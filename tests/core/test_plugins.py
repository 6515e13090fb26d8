"""Where a user's module is found, what comes first, and what a module that cannot be imported says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffpdata.core import plugins
from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import ConfigError
from ffpdata.core.plugins import import_object, locate, search_folders


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process imports as before afterwards."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])  # as the console script starts
    monkeypatch.setattr(plugins, "_used", {})
    yield
    for name in [name for name in sys.modules if name.startswith("zz_")]:
        del sys.modules[name]


def module(folder: Path, name: str, text: str = "class Mine: pass\n") -> Path:
    """Write a module; its packages have an `__init__.py`."""
    file = folder.joinpath(*name.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    for parent in file.parents:
        if parent == folder:
            break
        (parent / "__init__.py").touch()
    file.write_text(text)
    return folder


def test_the_first_folder_that_has_it_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    folders = search_folders([tmp_path / "one/a.yaml", tmp_path / "two/b.yaml", tmp_path / "one/c.yaml"])
    assert folders == [tmp_path / "one", tmp_path / "two", tmp_path / "cwd"]
    module(tmp_path / "cwd", "zz_inside.part")
    assert locate("zz_inside.part:Mine", folders) == str(tmp_path / "cwd")
    module(tmp_path / "two", "zz_inside.part")
    assert locate("zz_inside.part:Mine", folders) == str(tmp_path / "two")
    assert str(tmp_path / "two") not in sys.path, "what is only sought is not imported"
    assert import_object("zz_inside.part:Mine", str(tmp_path / "two")).__name__ == "Mine"
    assert sys.path[-1] == str(tmp_path / "two")


def test_what_is_installed_comes_first(tmp_path: Path) -> None:
    module(tmp_path, "colorsys", "raise RuntimeError('stray')\n")
    assert locate("colorsys:rgb_to_hsv", [tmp_path]) == ""
    assert import_object("colorsys:rgb_to_hsv")(0, 0, 0) == (0, 0, 0)
    module(tmp_path, "json.zz_mine")
    with pytest.raises(ConfigError, match=r"another 'json' at .*json/__init__\.py comes first\. Give yours another"):
        locate("json.zz_mine:Mine", [tmp_path])


def test_a_folder_that_is_on_the_path_anyway_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m ffpdata` has the working directory on its path; a later command from elsewhere has not."""
    module(tmp_path, "zz_noted")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert locate("zz_noted:Mine", [tmp_path]) == str(tmp_path)
    assert locate("zz_noted:Mine", [tmp_path / "other"]) == ""


def test_one_process_does_not_mix_two_folders(tmp_path: Path) -> None:
    one, two = (module(tmp_path / name, "zz_same", f"Mine = {name!r}\n") for name in ("one", "two"))
    assert import_object("zz_same:Mine", locate("zz_same:Mine", [one])) == "one"
    code = locate("zz_same:Mine", [two])
    assert code == str(two)
    with pytest.raises(ConfigError, match=f"imported from {one} before, and here the one in {two} is meant"):
        import_object("zz_same:Mine", code)


@pytest.mark.parametrize("folder", ["code", "../code", "/a/../b", "/proc/self/cwd", "/dev/fd/3"])
def test_only_folders_that_mean_one_place_are_taken(folder: str) -> None:
    """A run folder of somebody else must not name what lies beside it, or in the working directory."""
    with pytest.raises(ConfigError, match=r"write the folder of 'zz_none' absolutely"):
        import_object("zz_none:Mine", folder)


def test_what_is_gone_says_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"at the start it was in {tmp_path}/gone, which is not there now.*PYTHONPATH"
    ):
        import_object("zz_gone.part:Mine", f"{tmp_path}/gone")
    with pytest.raises(ConfigError, match=f"at the start it was in {tmp_path}, which does not hold it now"):
        import_object("zz_gone.part:Mine", str(tmp_path))
    with pytest.raises(ConfigError, match=r"not installed here\. Install it, or name its folder in PYTHONPATH"):
        import_object("zz_gone.part:Mine")


def test_what_is_nowhere_names_the_nearest(tmp_path: Path) -> None:
    module(tmp_path, "zz_package.blur")
    with pytest.raises(ConfigError, match=r"did you mean 'zz_package\.blur'\? Put 'zz_package' into the folder"):
        locate("zz_package.blurr:Mine", [tmp_path])
    with pytest.raises(ConfigError, match=rf"it is not in {tmp_path}\. Put 'zz_nothing'"):
        locate("zz_nothing.blur:Mine", [tmp_path])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os\n\nraise ValueError('on purpose')\n", r"zz_bad\.py:3: ValueError: on purpose"),
        ("x = 1\n1 +\n", r"zz_bad\.py:2: SyntaxError: "),
        ("import sys\nsys.exit('out')\n", r"zz_bad\.py:2: SystemExit: out"),
        ("import zz_absent.part\n", r"zz_bad\.py:1: 'zz_absent' is not installed"),
        ("from json import nothing\n", r"zz_bad\.py:1: ImportError: cannot import name 'nothing'"),
    ],
)
def test_a_module_that_raises_says_where(tmp_path: Path, text: str, message: str) -> None:
    module(tmp_path, "zz_bad", text)
    with pytest.raises(ConfigError, match=f"cannot import 'zz_bad': {tmp_path}/{message}"):
        import_object("zz_bad:Mine", str(tmp_path))


@pytest.mark.parametrize("path", ["zz_module", "zz_module:", ":Mine", "zz-module:Mine", "a..b:Mine", "a:b.c"])
def test_what_is_no_import_path(path: str) -> None:
    with pytest.raises(ConfigError, match=r"write package\.module:Class"):
        import_object(path)


def test_a_class_that_is_not_there(tmp_path: Path) -> None:
    module(tmp_path, "zz_other", "from pathlib import Path\nclass Blur: pass\n")
    with pytest.raises(ConfigError, match=r"module 'zz_other' has no 'Blurr'; did you mean 'Blur'\?"):
        import_object("zz_other:Blurr", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Fill: version = 1\n", "zz_models:Fill: a back end needs a class attribute `name`"),
        ("class Fill: name = 'fill'\n", "zz_models:Fill: a back end needs a class attribute `version`"),
        ("def Fill(spec): pass\n", "zz_models:Fill is no class but <function Fill"),
        ("class Fil: pass\n", r"module 'zz_models' has no 'Fill'; did you mean 'Fil'\?"),
        ("import zz_absent\n", r"cannot import 'zz_models': .*zz_models\.py:1: 'zz_absent' is not installed"),
        (None, r"cannot import 'zz_models': it is not installed, and it is not in .*Put 'zz_models' into"),
    ],
)
def test_a_back_end_that_cannot_be_names_its_entry(tmp_path: Path, text: str | None, message: str) -> None:
    if text:
        module(tmp_path, "zz_models", text)
    profile = tmp_path / "mine.yaml"
    profile.write_text("name: mine\nmodels:\n  remover:\n    licence: MIT\n    backend: zz_models:Fill\n")
    with pytest.raises(ConfigError, match=f"^{profile}:5: models.remover: {message}"):
        load_pipeline("local_editing", f"cpu,{profile}")
    load_pipeline("stylization", f"cpu,{profile}")  # which has no remover


def test_a_stage_of_an_installed_package_brings_its_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "from ffpdata.core.stage import Stage\nclass Mine(Stage):\n    name = 'mine'\n    prompts = ('zz_beside',)\n"
        "    def process(self, row): return {}\n"
    )
    module(tmp_path / "site", "zz_package.mine", text)
    (tmp_path / "site/zz_package/prompts").mkdir()
    question = "name: zz_beside\nabout: x\ntext: Is it?\nanswer: {there: {type: boolean}}\n"
    (tmp_path / "site/zz_package/prompts/zz_beside.yaml").write_text(question)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "mine.yaml").write_text("name: mine\ntrack: t\nstages:\n  - zz_package.mine:Mine\n")
    made = load_pipeline(str(tmp_path / "mine.yaml"))
    assert made.prompts["zz_beside"]["text"] == "Is it?"
    assert made.stages[0].code == "", "it is installed"
