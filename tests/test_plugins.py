"""A stage, a back end and a question in a folder of the user's own: from the console script, as a user starts it.

Nothing here is on Python's path but the checkout: `-P` keeps the working directory off it, as the console script does.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from ffpdata.media.codec import write_video

CHECKOUT = Path(__file__).resolve().parents[1]

PIPELINE = """\
name: mine
track: mine
profile: cpu,mine.yaml
clip: {width: 320, height: 192, fps: 16, frames: 17}
stages:
  - source
  - ingest: {min_side: 96}
  - mypackage.blur:Blur: {radius: 9}
  - mypackage.ask:Ask
curate:
  splits: {train: 1}
"""
PROFILE = """\
name: mine
models:
  remover: {backend: "mymodels:Fill", licence: MIT, settings: {strength: 0.5}}
  vision_language: {backend: "mymodels:Echo", licence: MIT}
"""
BLUR = """\
import cv2
import numpy as np
from helpers import plain
from ffpdata.core.stage import Artifact, Row, Stage, StageSettings
from ffpdata.media.codec import read_video, write_video


class Blur(Stage):
    name, version = "blur", 1
    reads, uses = ("source_video",), ("fps",)
    writes = {"target_video": Artifact("mp4"), "task": str, "radius": int}
    models = ("remover",)

    class Settings(StageSettings):
        radius: int = 5

    def process(self, row: Row) -> dict:
        size = (self.settings.radius, self.settings.radius)
        frames = np.stack([cv2.blur(frame, size) for frame in read_video(row.file("source_video"))])
        target = row.new_file("target_video")
        write_video(target, self.model("remover").darken(frames), row["fps"])
        return {"target_video": target, "task": plain("Stylization"), "radius": self.settings.radius}
"""
ASK = """\
from ffpdata.core.stage import Row
from ffpdata.stages._vision import VisionStage


class Ask(VisionStage):
    name, version = "ask", 1
    reads = ("target_video", "radius")
    writes = {"instruction": str}
    prompts = ("my_question",)

    def process(self, row: Row) -> dict:
        return {"instruction": self.ask(row, {"radius": row["radius"]})["instruction"]}
"""
MODELS = """\
from ffpdata.models.settings import BackendSettings, parse_settings


class FillSettings(BackendSettings):
    strength: float = 1.0


class Fill:
    name, version = "my_fill", 1
    Settings = FillSettings

    def __init__(self, spec):
        self.settings = parse_settings(FillSettings, spec)

    def darken(self, frames):
        return (frames * self.settings.strength).astype(frames.dtype)

    def close(self):
        pass


class Echo:
    name, version = "my_echo", 1

    def __init__(self, spec):
        pass

    def ask(self, prompt, media, fields):
        return {"instruction": prompt.render(fields)}

    def close(self):
        pass
"""
QUESTION = """\
name: my_question
about: How blurred it is.
inputs: [radius]
media: {target: clip}
text: Blur the clip by {radius} pixels.
answer: {instruction: {type: string, minLength: 1}}
"""


def write_code(folder: Path) -> None:
    (folder / "mypackage").mkdir(parents=True)
    for name, text in {
        "mypackage/__init__.py": "",
        "mypackage/blur.py": BLUR,
        "mypackage/ask.py": ASK,
        "mymodels.py": MODELS,
        "helpers.py": "def plain(text):\n    return text.lower()\n",
        # Names of Python's and of installed packages: files of the user's must not come before them.
        "colorsys.py": "raise RuntimeError('stray')\n",
        "cv2.py": "raise RuntimeError('stray')\n",
        "yaml.py": "raise RuntimeError('stray')\n",
    }.items():
        (folder / name).write_text(text)


def write_pipeline(folder: Path) -> Path:
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    (folder / "prompts/my_question.yaml").write_text(QUESTION)
    (folder / "profile").mkdir()
    (folder / "profile/mine.yaml").write_text(PROFILE)
    (folder / "mine.yaml").write_text(PIPELINE.replace("cpu,mine.yaml", f"cpu,{folder}/profile/mine.yaml"))
    return folder / "mine.yaml"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    picture = np.random.default_rng(0).integers(0, 255, (240, 400, 3), np.uint8)
    frames = np.stack([np.roll(picture, 2 * shift, 1) for shift in range(24)])
    write_video(folder / "clip.mp4", frames, 16)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


def ffpdata(cwd: Path, *words: str | Path, path: str = "", code: int = 0) -> str:
    """Run the command as the console script does; what it prints."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["PYTHONPATH"] = os.pathsep.join([str(CHECKOUT), *([path] if path else [])])
    start = "import sys; sys.argv[0] = 'ffpdata'; from ffpdata.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", start, *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def recorded(run: Path) -> dict[str, str]:
    """Class to the folder that run.yaml names for it."""
    *_, last = yaml.safe_load_all((run / "run.yaml").read_text())
    entries = [(stage["use"], stage["code"]) for stage in last["pipeline"]["stages"]]
    entries += [(model["backend"], model["code"]) for model in last["pipeline"]["models"].values()]
    return {name: code for name, code in entries if code}


@pytest.mark.slow
def test_all_commands_find_code_beside_the_pipeline(tmp_path: Path, elsewhere: Path, clip: Path) -> None:
    project = tmp_path / "project"
    write_code(project)
    pipeline, run, out = write_pipeline(project), tmp_path / "run", tmp_path / "out"
    assert "1 pair" in ffpdata(elsewhere, "run", pipeline, "--input", clip, "--run", run, "-q")
    names = ("mypackage.blur:Blur", "mypackage.ask:Ask", "mymodels:Fill", "mymodels:Echo")
    assert recorded(run) == dict.fromkeys(names, str(project))
    assert "1 pair" in ffpdata(elsewhere, "status", run)
    assert "Blur the clip by 9 pixels." in ffpdata(elsewhere, "sql", run, "select instruction from ask")
    assert "1 pair" in ffpdata(elsewhere, "retry", run, "--stage", "ask", "-q")
    assert "Report:" in ffpdata(elsewhere, "report", run)
    ffpdata(elsewhere, "review", run, "--export", tmp_path / "verdicts.json")
    ffpdata(elsewhere, "export", run, out)
    with tarfile.open(next(out.glob("train/*.tar"))) as shard:
        assert {name.split(".", 1)[1] for name in shard.getnames()} >= {"source.mp4", "target.mp4", "json"}
    assert "mymodels:Fill" in (out / "dataset.json").read_text()
    assert "1 pair" in ffpdata(elsewhere, "verify", out)
    # The folder is gone: one message with what to do, and that helps.
    moved = tmp_path / "moved"
    project.rename(moved)
    for words in (["export", run, tmp_path / "out2"], ["retry", run, "-q"]):
        said = ffpdata(elsewhere, *words, code=1)
        assert "stage 'blur': cannot import 'mypackage.blur'" in said
        assert f"at the start it was in {project}, which is not there now" in said
        assert "PYTHONPATH" in said
        assert "Traceback" not in said
    for stray in ("colorsys.py", "cv2.py", "yaml.py"):  # PYTHONPATH does come first: Python's own rule
        (moved / stray).unlink()
    (moved / "mymodels.py").rename(tmp_path / "mymodels.py")
    said = ffpdata(elsewhere, "export", run, tmp_path / "out2", path=str(moved), code=1)
    assert "cannot import 'mymodels'" in said
    (tmp_path / "mymodels.py").rename(moved / "mymodels.py")
    assert not (tmp_path / "out2").exists()
    ffpdata(elsewhere, "export", run, tmp_path / "out2", path=str(moved))


def test_the_working_directory_is_searched_and_hides_nothing(tmp_path: Path, clip: Path) -> None:
    code = tmp_path / "code"
    write_code(code)
    pipeline, run = write_pipeline(tmp_path / "pipelines"), tmp_path / "run"
    assert "1 pair" in ffpdata(code, "run", pipeline, "--input", clip, "--run", run, "-q")
    assert set(recorded(run).values()) == {str(code)}


def test_a_module_that_is_nowhere_is_one_message(tmp_path: Path, elsewhere: Path, clip: Path) -> None:
    project = tmp_path / "project"
    write_code(project)
    pipeline = write_pipeline(project)
    pipeline.write_text(pipeline.read_text().replace("mypackage.blur:", "mypackage.blurr:"))
    said = ffpdata(elsewhere, "run", pipeline, "--input", clip, "--run", tmp_path / "run", code=2)
    assert f"{pipeline}:8: cannot import 'mypackage.blurr': it is not installed, and it is not in {project}" in said
    assert str(elsewhere) in said
    assert "did you mean 'mypackage.blur'?" in said
    assert "PYTHONPATH" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.ray
def test_on_ray(tmp_path: Path, elsewhere: Path, clip: Path) -> None:
    """Ray puts the working directory on its workers' path: this one holds nothing."""
    project = tmp_path / "project"
    write_code(project)
    pipeline, run = write_pipeline(project), tmp_path / "run"
    words = ("run", pipeline, "--input", clip, "--run", run, "--runner", "ray", "-q", "--strict")
    assert "1 pair" in ffpdata(elsewhere, *words)


LOAD = """
import pickle, sys
from pathlib import Path
stages = pickle.loads(Path(sys.argv[1]).read_bytes())
from mypackage.blur import Blur
import mymodels, mypackage.ask
blur = next(stage for stage in stages if isinstance(stage, Blur))
blur.setup()
print(blur.settings.radius, type(blur.model("remover")).__name__, Path(mymodels.__file__).parent)
blur.teardown()
"""


@pytest.mark.parametrize("there", [True, False])
def test_stages_reach_a_node_with_their_code(tmp_path: Path, elsewhere: Path, there: bool) -> None:
    project = tmp_path / "project"
    write_code(project)
    pipeline = write_pipeline(project)
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "FFPDATA_SCRATCH": str(tmp_path)}
    pack = (
        "import pickle, sys; from pathlib import Path; from ffpdata.core.config import load_pipeline; "
        "from ffpdata.runners.shipped_stages import ShippedStages; "
        "Path(sys.argv[2]).write_bytes(pickle.dumps(ShippedStages(load_pipeline(sys.argv[1]).build())))"
    )
    packed = tmp_path / "stages"
    command = [sys.executable, "-P", "-c", pack, str(pipeline), str(packed)]
    subprocess.run(command, env=environment, cwd=elsewhere, check=True, timeout=120)
    if not there:
        shutil.rmtree(project)
        project.mkdir()  # a home folder of the same name is on every node
    command = [sys.executable, "-P", "-c", LOAD, str(packed)]
    done = subprocess.run(command, env=environment, cwd=elsewhere, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    radius, backend, place = done.stdout.split()
    assert (radius, backend) == ("9", "Fill")
    assert (place == str(project)) is there
    assert there or not Path(place).exists(), "the copy goes with its process"


def test_code_that_is_too_large_is_not_sent(tmp_path: Path) -> None:
    from ffpdata.core.errors import FatalError
    from ffpdata.runners.shipped_stages import MOST_BYTES, CodeFolder

    (tmp_path / "big").mkdir()
    (tmp_path / "big/__init__.py").write_text("")
    with (tmp_path / "big/weights.bin").open("wb") as stream:
        stream.truncate(int(MOST_BYTES) + 1)
    read = CodeFolder.read(str(tmp_path), ["big"])
    assert read.files is None
    pickle.dumps(read)
    shutil.rmtree(tmp_path / "big")
    with pytest.raises(FatalError, match=r"64 MB that are sent: put the folder on a shared disk"):
        read.use()
