"""A start says what it does otherwise than the start before it, and how many stages compute anew because of that."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ffpdata.core.config import load_pipeline
from ffpdata.core.pipeline import Pipeline, StageEntry
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.runners.changes import changes
from ffpdata.runners.session import StartOptions, start
from tests import toys


class Starts:
    """Starts of one run folder of which nothing is computed: what `run.yaml` keeps of them is compared."""

    def __init__(self, folder: Path) -> None:
        self.run = RunFolder(folder / "run")

    def __call__(
        self, *overrides: str, track: str = "local_editing", profile: str | None = None, only: Sequence[str] = ()
    ) -> list[str]:
        pipeline = load_pipeline(track, profile, overrides)
        stages = pipeline.build()
        self.run.record_start(pipeline, "clips", None, built=stages)
        return changes(self.run.starts_of(pipeline.track), stages, only or [stage.name for stage in stages])


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    return Starts(tmp_path)


def test_a_setting_that_was_left_out(starts: Starts) -> None:
    assert starts("clip.frames=49") == []
    assert starts("clip.frames=49") == []
    assert starts(track="stylization") == [], "the other track has a first start of its own"
    assert starts() == ["clip.frames 49 -> 81: 14 stages anew"], "all but `source`: whoever reads the clip or its edit"
    [line] = starts("clip.frames=49")
    assert line.startswith("clip.frames 81 -> 49: as at 2")
    assert line.endswith(" UTC, whose results are used again")


def test_each_change_has_its_own_stages(starts: Starts, tmp_path: Path) -> None:
    starts()
    assert starts("screen.min_score=7", "curate.variants=all", "resources.screen.timeout=9", "verify.min_score=6") == [
        "curate.variants best -> all",
        "screen.min_score 5.0 -> 7.0: screen anew",
        "verify.min_score 7.0 -> 6.0: verify anew",
    ]
    [line, *_] = starts("clip.frames=49", "screen.min_score=7", "verify.min_score=6", only=["source", "ingest"])[1:]
    assert line == "clip.frames 81 -> 49: ingest anew", "the others are not computed in this start"
    text = (Path(__file__).parents[2] / "prompts" / "verify.yaml").read_text()
    (tmp_path / "verify.yaml").write_text(text.replace("Does it show", "Does it really show"))
    asked = f"prompts.verify={tmp_path / 'verify.yaml'}"
    assert "prompt verify is another text: verify anew" in starts("screen.min_score=7", asked)


def test_models_and_profiles(starts: Starts, tmp_path: Path) -> None:
    starts()
    [line] = starts("models.swapper.settings.min_delta_e=12.5")
    assert line == "models.swapper.settings.min_delta_e (unset) -> 12.5: 7 stages anew"
    assert starts("models.swapper.settings.min_delta_e=12.5", "models.vision_language.runtime.device=cpu") == []
    own = {"name": "mine", "models": {"segmenter": {"backend": "ffpdata.models.sam3:Sam3"}}, "stages": {}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(own))
    [profile, *others] = starts("models.swapper.settings.min_delta_e=12.5", profile=f"cpu,{tmp_path / 'mine.yaml'}")
    assert (profile, others) == ("profile cpu -> cpu,mine: 9 stages anew", [])


def test_another_version_of_a_stage(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    from ffpdata.stages.measure import Measure

    starts()
    monkeypatch.setattr(Measure, "version", 99)
    assert starts() == ["measure: another version of its code, or of a model's: measure anew"]


def test_stages_that_came_and_went(tmp_path: Path) -> None:
    def begun(*names: str, **more: Any) -> list[str]:
        entries = [StageEntry(name=name.lower(), use=f"tests.toys:{name}") for name in names]
        pipeline = Pipeline(name="toys", track="t", stages=entries)
        run.record_start(pipeline, **({"source": "in", "limit": None} | more))
        return changes(run.starts_of("t"), pipeline.build(), [name.lower() for name in names])

    run = RunFolder(tmp_path)
    begun("Read", "Upper", "End")
    assert begun("Read", "Upper", "Fan", "End") == ["stage fan is new: fan anew"]
    assert begun("Read", "Upper", "End", source="other", limit=3) == [
        "input in -> other",
        "limit (unset) -> 3",
        "stage fan is gone: as at "
        + run.starts()[0]["started_at"][:19].replace("T", " ")
        + " UTC, whose results are used again",
    ]


def test_a_run_says_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also what became of the input's list: other entries, or the same number of other ones."""

    def lines(mark: str, *, quiet: bool = False) -> list[str]:
        entries = [StageEntry(name="read", use="tests.toys:Read")]
        entries.append(StageEntry(name="upper", use="tests.toys:Upper", settings={"mark": mark}))
        pipeline = Pipeline(name="toys", track="t", stages=entries)
        start(RunFolder(tmp_path / "run"), pipeline, str(tmp_path / "in"), StartOptions(quiet=quiet))
        return [line for line in capfd.readouterr().err.splitlines() if line.startswith("changed: ")]

    (tmp_path / "in").mkdir()
    for text in ("alpha", "beta"):
        (tmp_path / "in" / f"{text}.txt").write_text(text)
    toys.Upper.calls.clear()
    assert lines("!") == []
    assert lines("!") == []
    assert lines("?") == ["changed: upper.mark ! -> ?: upper anew"]
    assert lines(".", quiet=True) == []
    [line] = lines("!")
    assert "as at " in line
    assert toys.Upper.calls == ["alpha", "beta"] * 3
    shutil.copy(tmp_path / "in/alpha.txt", tmp_path / "in/gamma.txt")
    assert lines("!") == ["changed: 2 inputs -> 3"]
    (tmp_path / "in/gamma.txt").rename(tmp_path / "in/delta.txt")
    assert lines("!") == ["changed: 3 inputs as before, but not the same ones, or with other hints"]
