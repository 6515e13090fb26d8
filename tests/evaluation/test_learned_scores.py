"""An evaluation with the encoders of a profile: architectures as published, tiny and with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ffpdata.api.evaluation import FACTS, evaluate
from ffpdata.evaluation.results import LEARNED
from ffpdata.media.codec import write_video
from tests.evaluation.editverse_folder import FPS, edited, scene
from tests.models import tiny_perception

pytest.importorskip("torch")
pytest.importorskip("transformers")

NEVER = ("image_quality", "judge_score", "judge_follows", "judge_quality", "judge_unedited")
"""The profile has no model for these."""


def test_a_profile_fills_its_columns(tmp_path: Path) -> None:
    for name, frames in (("source", scene(1)), ("7", edited(1)), ("8", edited(2))):
        (tmp_path / "out").mkdir(exist_ok=True)
        write_video(tmp_path / "out" / f"{name}.mp4", frames, FPS)
    (tmp_path / "items.csv").write_text("item,source,target_prompt\n7,out/source.mp4,A light box.\n8,,\n")
    profile = tiny_perception.write_profile(tmp_path / "weights")
    done = evaluate([tmp_path / "out"], str(tmp_path / "items.csv"), tmp_path / "run", profile=str(profile))
    full, bare = done.table.to_pylist()
    assert (full["status"], bare["status"]) == ("ok", "ok")
    assert {name for name in LEARNED if full[name] is None} == set(NEVER)
    assert 0 <= full["clip_consistency"] <= 1
    of_text = {"frame_text", "video_text", "pick_score"}
    of_source = {"source_clip_consistency", "source_dino_consistency", "input_similarity"}
    assert {name for name in LEARNED if bare[name] is None} == {*NEVER, *of_text, *of_source}
    assert full["change"] > 0
    assert bare["change"] is None
    facts = json.loads((tmp_path / "run" / FACTS).read_text())
    columns = {one["role"]: (one["licence"], one["columns"]) for one in facts["models"]}
    assert columns["preference_scorer"] == ("MIT", ["pick_score"])
    assert columns["video_text_encoder"][0].startswith("non-commercial")
    assert "vision_language" not in columns
