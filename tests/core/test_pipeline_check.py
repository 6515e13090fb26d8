"""One error at the start, with file and line, in place of one failed row per item."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ffpdata.core import plugins
from ffpdata.core.config import Pipeline, load_pipeline
from ffpdata.core.errors import ConfigError
from ffpdata.core.pipeline_check import COLUMN_TYPES, INPUT_COLUMNS, TABLE_COLUMNS, stage_class
from ffpdata.core.sections import InputSettings
from ffpdata.core.stage import Stage
from ffpdata.inputs.listing import list_inputs
from ffpdata.manifests.manifest import COMMON, arrow_type

Loads = Callable[..., Pipeline]

HEAD = "from ffpdata.core.stage import Artifact, Stage\n\n\n"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugins, "_used", {})
    yield
    for name in [name for name in sys.modules if name.startswith("zz_")]:
        del sys.modules[name]


@pytest.fixture
def load(tmp_path: Path) -> Loads:
    """Load a pipeline of these stages, in a folder with modules and questions of its own."""

    def run(*stages: str, **files: str) -> Pipeline:
        for name, text in files.items():
            file = tmp_path / (f"prompts/{name}.yaml" if text.startswith("name:") else f"{name}.py")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        lines = "".join(f"  - {stage}\n" for stage in stages)
        (tmp_path / "mine.yaml").write_text(f"name: mine\ntrack: local\nprofile: cpu\nstages:\n{lines}")
        return load_pipeline(str(tmp_path / "mine.yaml"))

    return run


def error(tmp_path: Path, line: int, message: str) -> Any:
    return pytest.raises(ConfigError, match=re.escape(f"{tmp_path}/mine.yaml:{line}: ") + ".*" + message)


LOCAL = ["source", "ingest", "identify", "caption", "propose", "segment", "removal_caption", "condition"]
LOCAL += ["synthesize", "measure", "screen", "discriminate", "instruct", "verify"]
STYLE = ["source", "ingest", "cinematic_caption", "animate", "depth", "references", "style_caption", "stylize"]
STYLE += ["measure", "instruct_style", "verify"]
NEEDED = {
    "source": {"ingest"},
    "ingest": set(LOCAL + STYLE) - {"source", "ingest"},
    "identify": {"caption", "removal_caption", "segment", "synthesize", "screen", "discriminate", "instruct"},
    "caption": {"removal_caption", "synthesize"},
    "propose": {
        "removal_caption",
        "condition",
        "synthesize",
        "measure",
        "screen",
        "discriminate",
        "instruct",
        "verify",
    },
    "segment": {"condition"},
    "condition": {"synthesize"},
    "synthesize": {"measure", "screen", "discriminate", "instruct", "verify"},
    "instruct": {"verify"},
    "cinematic_caption": {"animate"},
    "depth": {"stylize"},
    "references": {"style_caption", "stylize", "measure", "instruct_style", "verify"},
    "style_caption": {"stylize", "instruct_style"},
    "stylize": {"measure", "instruct_style", "verify"},
    "instruct_style": {"verify"},
}
"""Stage to those that cannot do without it. The others are optional for what comes after them."""


@pytest.mark.parametrize("order", [LOCAL, STYLE], ids=["local", "style"])
def test_which_stages_can_be_left_out(load: Loads, order: list[str]) -> None:
    for left_out in order:
        rest = [stage for stage in order if stage != left_out]
        needing = [stage for stage in rest if stage in NEEDED.get(left_out, ())]
        if not needing:
            assert [entry.name for entry in load(*rest).stages] == rest
            continue
        why = r"(no|neither|'\w+' writes, but after)"
        with pytest.raises(ConfigError, match=rf"mine\.yaml:\d+: stage '.*' reads '.*', which {why}"):
            load(*rest)
        if left := [stage for stage in rest if stage not in closure(left_out)]:
            assert load(*left)


def closure(stage: str) -> set[str]:
    """A stage and all that cannot do without it."""
    found = {stage}
    while more := {other for one in found for other in NEEDED.get(one, ())} - found:
        found |= more
    return found


@pytest.mark.parametrize("order", [LOCAL, STYLE], ids=["local", "style"])
def test_which_orders_are_refused(load: Loads, tmp_path: Path, order: list[str]) -> None:
    """Two neighbours in the other order are an error exactly where the second cannot do without the first."""
    for number, (one, two) in enumerate(itertools.pairwise(order)):
        turned = [*order[:number], two, one, *order[number + 2 :]]
        if two in NEEDED.get(one, ()):
            with error(tmp_path, 5 + number, f"stage '{two}' reads '.*', which '{one}' writes, but after it"):
                load(*turned)
        else:
            assert load(*turned)


MINE = HEAD + "class Mine(Stage):\n    name = 'mine'\n    {}\n    def process(self, row): return {{}}\n"


def test_a_column_that_nobody_writes(load: Loads, tmp_path: Path) -> None:
    with error(tmp_path, 7, r"stage 'mine' reads 'source_vide', which no stage before it .* mean 'source_video'\?"):
        load("source", "ingest", "zz_mine:Mine", zz_mine=MINE.format("reads = ('source_vide',)"))


@pytest.mark.parametrize("attribute", ["reads", "uses"])
def test_a_column_that_is_like_no_other(load: Loads, tmp_path: Path, attribute: str) -> None:
    text = MINE.format(f"{attribute} = ('zzz',)")
    with error(tmp_path, 6, r"reads 'zzz', which neither the input has .* declare `optional = \('zzz',\)` in 'mine'"):
        load("source", "zz_mine:Mine", zz_mine=text)


def test_an_optional_column_may_be_missing_and_counts_as_before(load: Loads) -> None:
    text = MINE.format("reads, optional = ('sha', 'zzz'), ('zzz',)")
    *_, mine = load("source", "zz_mine:Mine", zz_mine=text).build()
    required = type("Plain", (type(mine),), {"name": "mine", "optional": ()})()
    for values in ({"sha": "a"}, {"sha": "a", "zzz": 1}):
        assert mine.key_of(values) == required.key_of(values)


def test_a_misspelt_setting_of_a_users_stage_has_its_line(load: Loads, tmp_path: Path) -> None:
    text = HEAD + (
        "from ffpdata.core.stage import StageSettings\n"
        "class Mine(Stage):\n    name = 'mine'\n    def process(self, row): return {}\n"
        "    class Settings(StageSettings):\n        radius: int = 5\n"
    )
    with error(tmp_path, 7, r"unknown entry 'stages.mine.raduis'; did you mean 'radius'\?"):
        load("source", "zz_mine:Mine:\n      raduis: 9", zz_mine=text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Mine = 5\n", "zz_mine:Mine is no stage but 5: a stage is a class that inherits"),
        ("class Mine: pass\n", "is no stage but <class 'zz_mine.Mine'>"),
        (HEAD + "Mine = Stage\n", "the base class of stages"),
        (HEAD + "class Mine(Stage):\n    def process(self, row): return {}\n", "`name` .* of its own, e.g. 'mine'"),
        (HEAD + "class Mine(Stage):\n    name = 'a b'\n    def process(self, row): return {}\n", "`name` is 'a b'"),
        (HEAD + "class Mine(Stage):\n    name = 'items'\n    def process(self, row): return {}\n", "choose another"),
        (MINE.format("version = '1'"), "`version` is '1': write a whole number"),
        (HEAD + "class Mine(Stage):\n    name = 'mine'\n", "overrides neither `process` .* nor `expand`"),
        (MINE.format("fan_out = True"), "overrides `process`, which is called where `fan_out` is False"),
        (MINE.format("reads = 'sha'"), r"`reads` is 'sha': write a tuple of names; for one name write \(\"sha\",\)"),
        (MINE.format("writes = ('a',)"), "write a mapping of column to type"),
        (MINE.format("writes = {{'a': complex}}".replace("{{", "{").replace("}}", "}")), "use str, int, float"),
        (MINE.format("writes = {'status': str}"), "every table has already: call it mine_status"),
        (MINE.format("optional = ('sha',)"), "`optional` names 'sha', which is in neither"),
        (MINE.format("Settings = dict"), "a class that inherits ffpdata.core.stage.StageSettings"),
        ("import os\n1 / 0\n", r"cannot import 'zz_mine': .*/zz_mine\.py:2: ZeroDivisionError"),
        ("class Other: pass\n", "module 'zz_mine' has no 'Mine'; "),
    ],
)
def test_a_class_that_is_no_stage(load: Loads, tmp_path: Path, text: str, message: str) -> None:
    with error(tmp_path, 6, message):
        load("source", "zz_mine:Mine", zz_mine=text)


ASKS = HEAD + (
    "class Mine(Stage):\n    name = 'mine'\n    reads = ('sha', 'kind')\n    prompts = ('zz_mine_question',)\n"
    "    models = ('vision_language',)\n    {}\n    def process(self, row): return {{}}\n"
)
QUESTION = (
    "name: zz_mine_question\nabout: x\ninputs: [{0}]\ntext: 'Is {{{0}}} there?'\nanswer: {{there: {{type: boolean}}}}\n"
)


def test_a_question_of_the_users_own(load: Loads, tmp_path: Path) -> None:
    files = {"zz_mine": ASKS.format("")}
    made = load("source", "zz_mine:Mine", zz_mine_question=QUESTION.format("kind"), **files)
    assert made.prompts["zz_mine_question"]["inputs"] == ["kind"]
    with pytest.raises(ConfigError, match=r"prompts/zz_mine_question\.yaml: inputs names 'knd'.*mean 'kind'\?"):
        load("source", "zz_mine:Mine", zz_mine_question=QUESTION.format("knd"), **files)
    # The column is there, but the stage does not say that it reads it.
    with pytest.raises(ConfigError, match=r"inputs names 'bytes', and stage 'mine' \(.*mine\.yaml:6\)"):
        load("source", "zz_mine:Mine", zz_mine_question=QUESTION.format("bytes"), **files)
    (tmp_path / "prompts/zz_mine_question.yaml").unlink()
    with error(tmp_path, 6, f"stage 'mine': no prompt 'zz_mine_question': .*{tmp_path}"):
        load("source", "zz_mine:Mine", **files)


def test_a_field_that_the_stage_makes_itself(load: Loads) -> None:
    text = ASKS.format("fields = ('zz_made',)")
    assert load("source", "zz_mine:Mine", zz_mine=text, zz_mine_question=QUESTION.format("zz_made"))


def test_the_columns_of_an_input_are_known(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"x")
    (tmp_path / "style.png").write_bytes(b"y")
    (tmp_path / "in.csv").write_text(
        "path,object,box,caption,licence,url,style,more\n"
        'clip.mp4,dog,"0,0,9,9",a dog,MIT,http://a,style.png,1\n../out.mp4,,,,,,,\n'
    )
    items = list_inputs(str(tmp_path / "in.csv"), InputSettings())
    (tmp_path / "other.csv").write_text("path,reference\nclip.mp4,style.png\n")
    items += list_inputs(str(tmp_path / "other.csv"), InputSettings(kind="referenced"))
    (tmp_path / "third.csv").write_text(
        "path,edited_first_frame,mask,source_caption,edited_frame\nclip.mp4,style.png,style.png,a dog,8=style.png\n"
    )
    items += list_inputs(str(tmp_path / "third.csv"), InputSettings(kind="propagated"))
    (tmp_path / "style").mkdir()
    (tmp_path / "content").mkdir()
    (tmp_path / "clip.mp4").rename(tmp_path / "content/clip.mp4")
    (tmp_path / "style.png").rename(tmp_path / "style/style.png")
    items += list_inputs(str(tmp_path), InputSettings(kind="styled"))
    assert {name for item in items for name in item.values} == set(INPUT_COLUMNS)


def test_what_the_tables_have() -> None:
    assert set(TABLE_COLUMNS) == set(COMMON.names)
    for kind in COLUMN_TYPES:
        arrow_type(kind)
    with pytest.raises(TypeError):
        arrow_type(complex)


def test_every_stage_that_comes_with_ffpdata_is_one() -> None:
    for name in dict.fromkeys(LOCAL + STYLE):
        cls = stage_class(f"ffpdata.stages.{name}:{''.join(part.capitalize() for part in name.split('_'))}")
        assert cls.name == name
        assert issubclass(cls, Stage)
