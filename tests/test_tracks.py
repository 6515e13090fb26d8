"""Both tracks from real files to shards, on the embedded models, at a small size."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from ffpdata.core.config import load_pipeline
from ffpdata.core.library import Library
from ffpdata.export.loader import pairs
from ffpdata.export.verify import verify
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.media.codec import read_masks, read_video, video_info
from ffpdata.media.masks import iou
from ffpdata.runners.session import StartOptions, start, status
from tests.conftest import SMALL, SMALL_SETTINGS, Finished
from tests.media.bad_inputs import bad

CLI = [sys.executable, "-m", "ffpdata.cli"]


def ffpdata(*args: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*CLI, *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == code, done.stderr + done.stdout
    return done


def rows(run: Path, sql: str) -> list[dict[str, Any]]:
    return records(RunFolder.existing(run).connect(), sql)


def small(name: str, **changes: Any):
    return load_pipeline(name, overrides=[*SMALL_SETTINGS, *(f"{k}={v}" for k, v in changes.items())])


# --- what comes out ---


def test_every_entry_ends_in_a_row(finished: Finished, samples: Path) -> None:
    entered = rows(finished.run, "select count(distinct entered_id) as n from source")[0]["n"]
    clips = len((samples / "clips.csv").read_text().splitlines()) - 1
    assert entered == clips + len(list((samples / "content").iterdir()))
    lost = rows(
        finished.run,
        "select item_id from ingest where status = 'ok' and item_id not in (select parent_id from items) "
        "and item_id not in (select item_id from items)",
    )
    assert lost == []
    assert rows(finished.run, "select item_id from items where status in ('pending', 'failed')") == []
    assert rows(finished.run, "select item_id from items where status = 'rejected' and reason is null") == []


def test_all_three_tasks_come_out(finished: Finished) -> None:
    tasks = {
        r["task"]: r["n"]
        for r in rows(finished.run, "select task, count(*) as n from items where status = 'ok' group by 1")
    }
    assert set(tasks) == {"removal", "modification", "stylization"}
    assert sum(tasks.values()) >= 8
    assert status(RunFolder.existing(finished.run)).pairs == sum(tasks.values())


def test_accepted_masks_lie_on_the_object(finished: Finished, samples: Path) -> None:
    found = rows(
        finished.run, "select distinct path, mask_video from items where status = 'ok' and mask_video is not null"
    )
    scores = {}
    for row in found:
        truth = samples / "truth" / Path(row["path"]).stem / "mask.mp4"
        if truth.exists():
            scores[Path(row["path"]).stem] = float(
                np.mean(iou(read_masks(finished.run / row["mask_video"]), read_masks(truth)))
            )
    assert len(scores) >= 3
    assert np.mean(list(scores.values())) >= 0.75, scores


def test_every_video_has_the_clip_size(finished: Finished) -> None:
    for row in rows(finished.run, "select * from items where status = 'ok'"):
        for column in ("source_video", "target_video", "mask_video", "depth_video"):
            if row.get(column):
                info = video_info(finished.run / row[column])
                assert (info.frames, info.width, info.height) == (SMALL.frames, SMALL.width, SMALL.height), column


def test_pairs_differ_where_they_should(finished: Finished) -> None:
    for row in rows(finished.run, "select * from items where status = 'ok' and track = 'local'"):
        source, target = read_video(finished.run / row["source_video"]), read_video(finished.run / row["target_video"])
        region = read_masks(finished.run / row["condition_mask"])
        difference = np.abs(source.astype(int) - target).mean(-1)
        assert difference[~region].mean() < 3 < difference[region].mean(), row["item_id"]


def test_answers_keep_the_rules_of_their_prompts(finished: Finished) -> None:
    prompts = {p.name: p for stage in small("local_editing").build() for p in stage.questions.values()}
    checked = 0
    for row in rows(finished.run, "select * from items where track = 'local' and status = 'ok'"):
        if row["caption_by"] != "user":
            assert prompts["caption"].violations({"caption": row["caption"]}, {}) == []
        if row["target_caption"]:
            fields = {"object": row["object"], "caption": row["caption"]}
            assert prompts["removal_caption"].violations({"caption": row["target_caption"]}, fields) == []
        assert prompts["instruct"].violations({"instruction": row["instruction"]}, {}) == []
        checked += 1
    assert checked


def test_the_export_verifies_and_loads(finished: Finished) -> None:
    report = verify(finished.out)
    assert report.problems == []
    total = 0
    for split in json.loads((finished.out / "dataset.json").read_text())["splits"]:
        for pair in pairs(finished.out, split):
            assert pair["source"].shape == pair["target"].shape == (SMALL.frames, SMALL.height, SMALL.width, 3)
            assert pair["instruction"]
            total += 1
    assert total == status(RunFolder.existing(finished.run)).pairs


# --- resume ---


def shards(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_a_second_start_redoes_nothing(finished: Finished, samples: Path) -> None:
    run = RunFolder.existing(finished.run)
    before = {stage: run.manifest.read(stage).num_rows for stage in run.manifest.stages()}
    start(run, small("local_editing"), str(samples / "clips.csv"), StartOptions(quiet=True))
    assert {stage: run.manifest.read(stage).num_rows for stage in run.manifest.stages()} == before


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    import shutil

    shutil.copytree(finished.run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    return tmp_path / "run"


def new_rows(run: RunFolder, before: dict[str, int]) -> dict[str, int]:
    now = {stage: run.manifest.read(stage).num_rows for stage in run.manifest.stages()}
    return {stage: now[stage] - before.get(stage, 0) for stage in now if now[stage] != before.get(stage, 0)}


def test_a_changed_prompt_redoes_its_dependents_alone(copy: Path, samples: Path, tmp_path: Path) -> None:
    """A new word in the verify prompt: the rows of verify and of what is graded after it, and nothing else."""
    prompt = yaml.safe_load((Library.find().root / "prompts" / "verify.yaml").read_text())
    prompt["text"] += "Look closely.\n"
    (tmp_path / "verify.yaml").write_text(yaml.safe_dump(prompt, sort_keys=False))
    run = RunFolder.existing(copy)
    before = {stage: run.manifest.read(stage).num_rows for stage in run.manifest.stages()}
    waiting, graded = (
        rows(copy, f"select count(*) as n from {stage} where track = 'local'")[0]["n"] for stage in ("verify", "grade")
    )
    start(
        run,
        small("local_editing", **{"prompts.verify": tmp_path / "verify.yaml"}),
        str(samples / "clips.csv"),
        StartOptions(quiet=True),
    )
    made = new_rows(run, before)
    assert made.pop("curate", 0) <= waiting
    entered = rows(copy, "select count(distinct entered_id) as n from source where track = 'local'")[0]["n"]
    assert made.pop("inputs") == entered + 1, "one row says that the run was set up anew"
    assert made == {"verify": waiting, "grade": graded}


def test_a_changed_threshold_redoes_its_stage(copy: Path, samples: Path) -> None:
    run = RunFolder.existing(copy)
    pairs_before = status(run).pairs
    start(
        run,
        small("local_editing", **{"measure.limits.swap.change_inside": "{min: 200}"}),
        str(samples / "clips.csv"),
        StartOptions(quiet=True),
    )
    assert status(run).stages["measure"]["reasons"].get("change_inside_too_low", 0) > 0
    assert status(run).pairs < pairs_before
    start(run, small("local_editing"), str(samples / "clips.csv"), StartOptions(quiet=True))
    assert status(run).pairs == pairs_before, "going back restores the pairs"


def test_encoders_in_a_profile_score_finished_pairs(copy: Path, samples: Path, tmp_path: Path) -> None:
    """Only what is new is made: scores of every pair, and its grade, which may be held to them."""
    pytest.importorskip("transformers", reason="the extra `models` is not installed")
    from tests.models import tiny_perception

    (tmp_path / "weights").mkdir()
    profile = f"cpu,{tiny_perception.write_profile(tmp_path / 'weights')}"
    run = RunFolder.existing(copy)
    before = {stage: run.manifest.read(stage).num_rows for stage in run.manifest.stages()}
    verified, graded = (
        rows(copy, f"select count(*) as n from {stage} where track = 'local' and status = 'ok'")[0]["n"]
        for stage in ("verify", "grade")
    )
    pipeline = load_pipeline("local_editing", profile, SMALL_SETTINGS)
    start(run, pipeline, str(samples / "clips.csv"), StartOptions(quiet=True))
    made = new_rows(run, before)
    assert made["assess"] == verified > 0
    assert set(made) <= {"assess", "grade", "curate", "inputs"}
    found = rows(copy, "select * from items where status = 'ok' and track = 'local' and assess_key is not null")
    assert len(found) == graded
    for row in found:
        assert 0 < row["clip_consistency"] <= 1
        assert 0 < row["dino_consistency"] <= 1
        assert -1 <= row["input_similarity"] < 1
        captioned = bool(row["target_caption"])
        assert {row[name] is not None for name in ("frame_text", "video_text", "pick_score")} == {captioned}
        assert row["judge_score"] is None
    ffpdata("export", copy, tmp_path / "out")
    about = json.loads((tmp_path / "out" / "dataset.json").read_text())
    scored = {entry["score"]: entry for entry in about["assessed"]}
    assert scored["video_text"]["licence"].startswith("non-commercial")
    assert scored["clip_consistency"]["pairs"] == len(found)
    assert "## Scores by trained models" in (tmp_path / "out" / "README.md").read_text()
    [shard, *_] = sorted((tmp_path / "out").glob("*/*.parquet"))
    listed = [dict(scores) for scores in pq.read_table(shard)["scores"].to_pylist()]
    assert any("dino_consistency" in scores for scores in listed)
    ffpdata("report", copy)
    assert "clip consistency" in (copy / "report" / "index.html").read_text()


# --- bad input ---


def test_bad_input_ends_typed(tmp_path: Path) -> None:
    """Everything hostile at once: each file ends in a row with its reason, and nothing else is read."""
    made = bad(tmp_path / "clips")
    run = RunFolder(tmp_path / "run")
    began = time.monotonic()
    pipeline = small("local_editing", **{"clip.frames": 17, "ingest.min_side": 240})  # the files have 1.5 s
    pipeline = pipeline.model_copy(update={"stages": pipeline.stages[:2]})
    start(run, pipeline, str(tmp_path / "clips"), StartOptions(quiet=True))
    ended = {
        Path(r["path"]).name: r
        for r in rows(tmp_path / "run", "select path, status, reason, error from items where path is not null")
    }
    reasons = Counter(r["reason"] for r in rows(tmp_path / "run", "select reason from items where status <> 'ok'"))
    assert (
        len(list((tmp_path / "clips").iterdir()))
        == rows(tmp_path / "run", "select count(distinct entered_id) n from source")[0]["n"]
    )
    for name, file in made.items():
        if not file.path.exists() and not file.path.is_symlink():
            continue  # nothing there to list
        row = ended[file.path.name]
        assert row["status"] == "rejected", (name, row)
        also = {"duplicate"}
        also |= {"not_a_video"} if file.path.suffix == ".gif" else set()
        also |= {"path_outside_input"} if file.path.is_symlink() else set()
        assert row["reason"] in file.reasons | also, (name, row)
    assert sum(reasons.values()) >= len(made) - 1
    assert not rows(tmp_path / "run", "select item_id from items where status = 'failed'")
    assert time.monotonic() - began < 150


# --- the command line ---


def test_two_runs_on_one_folder(samples: Path, tmp_path: Path) -> None:
    command = [*CLI, "run", "local_editing", "--input", str(samples / "clips.csv"), "--run", str(tmp_path / "run")]
    with subprocess.Popen([*command, "--set", SMALL_SETTINGS[0], "-q"], stdout=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "run.yaml").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        second = ffpdata("run", "local_editing", "--input", samples / "clips.csv", "--run", tmp_path / "run", code=1)
        assert f"process {first.pid}" in second.stderr
        while not list((tmp_path / "run/manifests/source").glob("*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 130
    assert status(RunFolder.existing(tmp_path / "run")).stages["source"]["ok"] > 0


def test_status_and_sql(finished: Finished) -> None:
    found = json.loads(ffpdata("status", finished.run, "--json").stdout)
    assert set(found) >= {"stages", "pairs"}
    assert all(set(s) >= {"ok", "rejected", "failed", "running", "reasons"} for s in found["stages"].values())
    answer = json.loads(ffpdata("sql", finished.run, "select count(*) as n from items", "--json").stdout)
    assert answer[0]["n"] > 0
    assert "nope" in ffpdata("sql", finished.run, "select nope from items", code=2).stderr


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["run", "locl_editing", "--input", ".", "--run", "r"], 2, "did you mean 'local_editing'?"),
        (["run", "local_editing", "--input", "nowhere", "--run", "r"], 2, "no such folder"),
        (["run", "local_editing", "--input", ".", "--run", "r", "--set", "segmnt.x=1"], 2, "did you mean 'segment'?"),
        (["run", "local_editing", "--input", ".", "--run", "r", "--profile", "gup"], 2, "no profile 'gup'"),
        (["run", "local_editing"], 2, "--input"),
        (["status", "nowhere"], 1, "is no run folder"),
        (["export", "nowhere", "out"], 1, "is no run folder"),
        (["verify", "nowhere"], 1, "nowhere"),
    ],
)
def test_wrong_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"")
    done = ffpdata(*args, code=code)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_strict_and_counts(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"not a clip")
    done = ffpdata("run", "local_editing", "--input", tmp_path / "clips", "--run", tmp_path / "run", "--strict")
    assert "not_a_video 1" in done.stdout
    assert "0 pairs" in done.stdout


def test_a_read_only_folder_is_one_message(samples: Path, tmp_path: Path, as_root: bool) -> None:
    target = Path("/proc/ffpdata") if as_root else tmp_path / "locked" / "run"
    if not as_root:
        (tmp_path / "locked").mkdir(mode=0o500)
    done = ffpdata("run", "local_editing", "--input", samples / "clips.csv", "--run", target, code=1)
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_doctor_names_every_role() -> None:
    done = ffpdata("doctor")
    for role in ("vision_language", "segmenter", "remover", "swapper", "stylizer", "ffmpeg"):
        assert role in done.stdout
    assert "FAIL" not in done.stdout


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "ray", "cv2", "pyarrow", "duckdb", "av")
    code = f"import sys, ffpdata.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
