"""A wrong entry is refused with its file, its line, the value and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import ConfigError, UsageError
from ffpdata.core.library import Library

PIPELINE = """\
name: mine
track: local
profile: {profile}
clip: {{width: 320, height: 192, fps: 16, frames: 33}}
stages:
  - source
  - ingest:
      clips_per_source: 2
  - identify
  - caption
  - propose
  - segment
  - condition
  - synthesize
  - measure:
      limits:
        removal: {{psnr_outside: {{min: 20}}}}
"""
PROFILE = """\
name: tiny
models:
  segmenter: {backend: "ffpdata.models.classical.segmenter.motion_segmenter:MotionSegmenter"}
stages:
  ingest: {scan_seconds: 5}
  measure: {limits: {removal: {unrevealed: {max: 0.2}}}}
  segment: {}
"""


@pytest.fixture
def write(tmp_path: Path):
    def _write(pipeline: str = PIPELINE, profile: str = PROFILE) -> str:
        (tmp_path / "profile.yaml").write_text(profile)
        path = tmp_path / "mine.yaml"
        path.write_text(pipeline.format(profile=tmp_path / "profile.yaml") if "{profile}" in pipeline else pipeline)
        return str(path)

    return _write


def settings(pipeline, stage: str) -> dict:
    return next(s.settings for s in pipeline.stages if s.name == stage)


def test_profile_and_overrides_lie_over_the_pipeline(write) -> None:
    made = load_pipeline(write(), overrides=["ingest.timeout_s=9", "clip.frames=17", "curate.seed=3"])
    assert settings(made, "ingest")["clips_per_source"] == 2
    assert settings(made, "ingest")["scan_seconds"] == 5
    assert settings(made, "ingest")["timeout_s"] == 9
    assert settings(made, "ingest")["clip"]["frames"] == 17
    assert settings(made, "ingest")["clip"]["width"] == 320
    assert set(settings(made, "measure")["limits"]["removal"]) == {"psnr_outside", "unrevealed"}
    assert made.profile == "tiny"
    assert made.curate.seed == 3
    assert [s.name for s in made.build()][:3] == ["source", "ingest", "identify"]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("clips_per_source", "clips_per_sorce", 8, "did you mean 'clips_per_source'?"),
        ("  - ingest:\n", "  - ingets:\n", 7, "did you mean 'ingest'?"),
        ("track: local", "trak: local", 2, "did you mean 'track'?"),
        ("frames: 33", "frames: 32", 4, "4n+1"),
        ("width: 320", "widht: 320", 4, "did you mean 'width'?"),
        ("clips_per_source: 2", "clips_per_source: many", 8, "got 'many'"),
        ("{{min: 20}}", "{{minimum: 20}}", 17, "did you mean 'min'?"),
    ],
)
def test_errors_name_file_line_and_remedy(write, old: str, new: str, line: int, message: str) -> None:
    path = write(PIPELINE.replace(old, new))
    with pytest.raises(ConfigError) as err:
        load_pipeline(path)
    assert message in str(err.value)
    assert f"{path}:{line}" in str(err.value)


def test_a_profile_error_names_the_profile(write, tmp_path: Path) -> None:
    path = write(profile=PROFILE.replace("scan_seconds", "scan_secs"))
    with pytest.raises(ConfigError, match=r"profile\.yaml:5: unknown entry .*did you mean 'scan_seconds'"):
        load_pipeline(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ingest", "write a.b=c"),
        ("ingst.timeout_s=1", "did you mean 'ingest'?"),
        ("ingest.timeout=1", "did you mean 'timeout_s'?"),
        ("curate.split=1", "did you mean 'splits'?"),
        ("clip.frames=[", "not valid YAML"),
    ],
)
def test_overrides_are_checked_too(write, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as err:
        load_pipeline(write(), overrides=[text])
    assert message in str(err.value)
    assert "--set" in str(err.value)


def test_a_stage_of_the_users_own(write) -> None:
    made = load_pipeline(
        write(
            PIPELINE.replace("  - measure:", "  - tests.toys:Read\n  - tests.toys:Upper: {{mark: '?'}}\n  - measure:")
        )
    )
    assert [s.name for s in made.build()][-3:] == ["read", "upper", "measure"]
    assert settings(made, "upper") == {"mark": "?"}


@pytest.mark.parametrize("kind", ["pipelines", "pipelines/profiles", "prompts"])
def test_names_that_are_not_there(kind: str) -> None:
    with pytest.raises(UsageError, match=r"valid names: |did you mean"):
        Library.find().file(kind, "locl_editing")


@pytest.mark.parametrize("name", ["local_editing", "stylization"])
def test_what_comes_with_ffpdata_resolves_and_freezes(name: str) -> None:
    made = load_pipeline(name)
    again = type(made).model_validate(made.model_dump(mode="json"))
    for first, second in zip(made.build(), again.build(), strict=True):
        for roles in ((), first.models[:1]):
            assert first.fixed_key(roles) == second.fixed_key(roles)


def test_the_folder_of_stages_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    real = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: listed.append(self.name) or real(self, pattern))
    load_pipeline("local_editing", "gpu")
    assert listed.count("stages") == 1
