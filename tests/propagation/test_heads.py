"""`ffpdata heads` on an export: the classes, their picture, and what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ffpdata.cli import app
from ffpdata.cli.heads import study_pairs
from ffpdata.core.errors import UsageError
from ffpdata.models.propagation.heads import read_heads
from ffpdata.models.propagation.model_folder import base_digest
from tests.propagation.tiny_propagation import SIZE, TinyFunControl, spec_of, write_checkpoint

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profile")
    write_checkpoint(folder / "checkpoint")
    spec = spec_of(folder / "checkpoint", clip_embedding="zero")
    models = {"propagator": {"backend": spec.backend, "model": spec.model, "settings": spec.settings}}
    models["propagator"]["runtime"] = {"device": "cpu"}
    (folder / "tiny.yaml").write_text(json.dumps({"name": "tiny", "about": "a tiny one", "models": models}))
    return folder / "tiny.yaml"


def test_pairs_of_an_export_vote(dataset: Path, profile: Path, tmp_path: Path) -> None:
    command = ["heads", str(dataset), str(tmp_path / "out"), "--profile", str(profile), "--clips", "2", "--frames", "9"]
    said = CliRunner().invoke(app, [*command, "--rows", "8", "--json"], catch_exceptions=False)
    told = json.loads(said.stdout.splitlines()[-1])
    heads = read_heads(tmp_path / "out" / "heads.json")
    spec = spec_of(profile.parent / "checkpoint")
    assert heads.base == told["base"] == base_digest(TinyFunControl.training_plan(spec).parts)
    assert told["spatial"] + told["temporal"] == 8
    assert (heads.width, heads.height, heads.frames, heads.rows_per_frame) == (*SIZE, 9, 8)
    assert (tmp_path / "out" / "heads.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "out" / "heads.json").read_bytes()
    again = CliRunner().invoke(app, [*command, "--rows", "8"], catch_exceptions=False)
    assert "looked at" not in again.output
    assert (tmp_path / "out" / "heads.json").read_bytes() == before


def test_what_is_refused(dataset: Path, profile: Path, tmp_path: Path) -> None:
    command = ["heads", str(dataset), str(tmp_path)]
    for more, why in (
        (["--profile", str(profile), "--frames", "8"], "4n\\+1"),
        (["--profile", "cpu"], "no attention heads"),
        (["--profile", str(profile), "--frames", "81"], "no pair"),
        (["--profile", str(profile), "--epsilon", "2"], "epsilon"),
    ):
        with pytest.raises(UsageError, match=why):
            CliRunner().invoke(app, [*command, *more], catch_exceptions=False)


def test_pairs_that_are_too_short_do_not_vote(dataset: Path) -> None:
    found = list(study_pairs(str(dataset), "", 2, 17))
    assert [pair.source.shape for pair in found] == [(17, SIZE[1], SIZE[0], 3)] * 2
    assert [pair.target.shape[0] for pair in study_pairs(str(dataset), "", 3, 5)] == [5] * 3
    assert list(study_pairs(str(dataset), "", 2, 21)) == []
