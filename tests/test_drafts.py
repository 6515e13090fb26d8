"""A run with drafts that is killed and goes on: the same rows and shards, no draft made twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.export.shards import export
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import records
from ffpdata.runners.session import StartOptions, start

pytestmark = pytest.mark.slow

SETTINGS = [
    "clip={width: 160, height: 96, fps: 16, frames: 17}",
    "ingest.min_side=64",
    "draft.width=96",
    "draft.height=64",
    "draft_check.limits={}",
    "propose.edits=[{task: removal, variant: bbox}, {task: swap, variant: mask}]",
]
ENDS = "select item_id, stage, status, reason, draft_key, synthesize_key from items order by all"


def test_killed_between_draft_and_full_size(samples: Path, tmp_path: Path) -> None:
    source, pipeline = str(samples / "clips.csv"), load_pipeline("local_editing", "cpu,drafts", overrides=SETTINGS)
    whole = RunFolder(tmp_path / "whole")
    start(whole, pipeline, source, StartOptions(quiet=True, limit=3))
    ends = records(whole.connect(), ENDS)
    assert sum(row["draft_key"] is not None for row in ends) >= 2
    assert any(row["status"] == "ok" for row in ends)

    command = [sys.executable, "-m", "ffpdata.cli", "run", "local_editing", "--profile", "cpu,drafts", "-q"]
    command += ["--input", source, "--limit", "3", "--run", str(tmp_path / "run")]
    command += [part for text in SETTINGS for part in ("--set", text)]
    killed = RunFolder(tmp_path / "run")
    for folder in ("draft_video", "target_video"):
        made = tmp_path / "run" / "artifacts" / folder
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            while process.poll() is None and not (made.exists() and list(made.rglob("*.mp4"))):
                time.sleep(0.01)
            assert process.poll() is None, f"it ended before it was killed at the first {folder}"
            process.send_signal(signal.SIGKILL)
    start(killed, pipeline, source, StartOptions(quiet=True, limit=3))
    assert records(killed.connect(), ENDS) == ends
    for stage in ("draft", "draft_check", "synthesize"):
        twice = f"select entered_id, key from {stage}_history group by all having count(distinct started_at) > 1"
        assert records(killed.connect(), twice) == [], f"{stage}: once is enough"
    exported = []
    for run in (whole, killed):
        folder = tmp_path / f"out-{Path(run.store.root).name}"
        export(run, folder, shard_size_mb=1)
        exported.append({str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert exported[0] == exported[1]
