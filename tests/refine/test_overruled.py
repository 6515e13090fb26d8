"""A start that would replace a promoted remover is warned of, from Python and from the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ffpdata
from ffpdata.core.errors import FfpdataWarning
from ffpdata.core.stage import ModelSpec
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.refine import PROMOTED
from ffpdata.refine.overruled import overruled
from ffpdata.refine.round import Round, RoundDecision, RoundPlan
from ffpdata.refine.rounds import _write_profile
from ffpdata.refine.settings import RefineSettings

BASE = ModelSpec(backend="ffpdata.models.vace:Vace", model="some/vace", revision="abc")
TOYS = "name: toys\ntrack: t\nstages: ['tests.toys:Read']\n"
MODELS = f"models: {{remover: {{backend: '{BASE.backend}', model: some/vace, revision: abc}}}}\n"


@pytest.fixture
def refined(tmp_path: Path) -> RunFolder:
    """A run folder with one promoted round."""
    run = RunFolder(tmp_path / "run")
    first = Round(run.store, 1)
    settings = RefineSettings()
    plan = RoundPlan(
        number=1, begun_at="2026-01-01", track="t", parent=BASE, base=BASE, settings=settings, held_out=["x"]
    )
    first.write_json("plan.json", plan.model_dump(mode="json"))
    first.write_json("lineage.json", {"revision": "def"})
    first.write_json("decision.json", RoundDecision(at="2026-01-02", promoted=True, why="Better.").model_dump())
    _write_profile(run, [first])
    (tmp_path / "toys.yaml").write_text(TOYS + MODELS)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("alpha")
    return run


def test_another_remover_is_told(refined: RunFolder, tmp_path: Path) -> None:
    pipeline = ffpdata.load_pipeline(tmp_path / "toys.yaml")
    said = overruled(refined, pipeline)
    assert said.startswith("This run was refined, and this start makes all removals by some/vace@abc+sdpa again.")
    assert said.endswith(f"--profile {refined.store.root}/{PROMOTED}")
    assert overruled(RunFolder(tmp_path / "other"), pipeline) == ""
    kept = ffpdata.load_pipeline(tmp_path / "toys.yaml", f"{refined.store.root}/{PROMOTED}")
    assert overruled(refined, kept) == ""


def test_it_is_a_warning_in_python_and_a_line_of_the_command(refined: RunFolder, tmp_path: Path) -> None:
    with pytest.warns(FfpdataWarning, match="This run was refined"):
        ffpdata.run(tmp_path / "toys.yaml", tmp_path / "in", refined.store.root)
    words = ["run", str(tmp_path / "toys.yaml"), "--input", str(tmp_path / "in"), "--run", refined.store.root]
    done = subprocess.run([sys.executable, "-m", "ffpdata", *words, "-q"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("This run was refined, and this start makes all removals by")
    assert len(done.stderr.splitlines()) == 1
