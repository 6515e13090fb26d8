"""The page of an evaluation, its rows to paste, printed rows, and agreement with a CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.errors import UsageError
from ffpdata.evaluation.against import agreement
from ffpdata.evaluation.page import write_page
from ffpdata.evaluation.published import differences, published
from ffpdata.evaluation.rows import latex, markdown
from ffpdata.evaluation.statistics import summarise
from tests.evaluation.made_up import table_of

HOSTILE = "</td><script>window.hacked=1</script>"


def test_a_page_says_what_is_published_and_missing(tmp_path: Path) -> None:
    scores = {"clip_consistency": [0.98, 0.97, None], "source_clip_consistency": [0.99, 0.99, 0.99]}
    texts = {"category": HOSTILE, "instruction": HOSTILE, "judge": HOSTILE, "target": "javascript:a'\"><b>.mp4"}
    table = table_of({HOSTILE: scores, "b": scores}, **texts)
    page = write_page(table, tmp_path, benchmark="editverse", title=HOSTILE, subset=HOSTILE).read_text()
    assert "<script>window" not in page
    assert page.count("<script>") == 1
    assert 'data-src="javascript%3Aa%27%22%3E%3Cb%3E.mp4"' in page
    assert "<video" not in page, "videos are made where they come on the screen"
    assert "of 125 outputs, ours of 3" in page
    assert "1 of 3 clips lack CLIP temporal: not measured 1." in page
    assert "A still clip scores 1.0 in CLIP temporal" in page
    assert "source 0.9900" in page
    assert "DeQA" in page, "what no model measured is named"
    assert "no difference found" in page


def test_empty_tables(tmp_path: Path) -> None:
    table = table_of({"a": {"frame_text": [None, None]}})
    assert "nothing was measured" in write_page(table, tmp_path, benchmark="own", title="t").read_text()
    page = write_page(table.slice(0, 0), tmp_path, benchmark="own", title="t").read_text()
    assert "There is no second method" in page


def test_printed_rows() -> None:
    [ours] = [row for row in published("EditVerseBench") if row.method == "FreeProp, 81 frames"]
    assert (ours.n, ours.means["video_text"], ours.printed("judge_score")) == (125, 25.925, "7.600")
    assert {row.benchmark for row in published()} == {"editverse", "unic", "i2vedit"}
    assert published("own.csv") == []
    told = differences(ours, n=200, judges=["gpt-4o"], subset="all")
    assert told[0] == "of 125 outputs, ours of 200"
    assert told[1] == "judged by Qwen2.5-VL-72B-Instruct, 10 frames, ours by gpt-4o"
    assert "another subset than ours (all)" in told[2]
    [full] = [row for row in published("editverse") if row.n == 200 and row.method == "STDF"]
    assert differences(full, n=200, judges=["gpt-4o-2024-11-20"], subset="all pairs") == []


def test_rows_to_paste() -> None:
    table = table_of({"a|b_c": {"frame_text": [25.0, 26.0], "clip_consistency": [0.5, None]}})
    summaries = summarise(table, ["frame_text", "clip_consistency"])
    lines = markdown(summaries, published("unic")).splitlines()
    assert lines[0] == "| Method | n | CLIP temporal | Frame text | Source |"
    assert lines[2] == r"| a\|b\_c | 2 | 0.5000 (n=1) | 25.500 | ours |"
    assert lines[3].startswith("| FreeProp | 128 | 0.986 | 24.879 | published: FFP-300K paper")
    assert r"a|b\_c & 2 & 0.5000 (n=1) & 25.500 & ours \\" in latex(summaries)


def test_agreement_with_a_csv(tmp_path: Path) -> None:
    table = table_of({"a": {"clip_consistency": [0.5, 0.8, 0.9], "frame_text": [20.0, 21.0, None]}})
    file = tmp_path / "theirs.csv"
    file.write_text(
        "id,clip_temporal_consistency,frame_text_alignment\n0,0.5,20.0\n0001,0.8016,\n7,0.4,3\nmean,0.9,9\n"
    )
    clip, frame = agreement(table, file)
    assert (clip.metric, clip.n, clip.worst, clip.beyond, clip.agrees) == ("clip_consistency", 2, "0001", 1, False)
    assert clip.largest == pytest.approx(0.0016 / 0.8016)
    assert clip.median == pytest.approx(clip.largest / 2)
    assert (clip.only_ours, clip.only_theirs) == (["2"], ["7", "mean"])
    assert (frame.n, frame.largest, frame.agrees, frame.only_ours) == (1, 0.0, True, ["1"])
    assert np.isfinite(clip.median)
    file.write_text("id,other\n0,1\n")
    with pytest.raises(UsageError, match="none of its columns is a metric"):
        agreement(table, file)
    with pytest.raises(UsageError, match="cannot be read"):
        agreement(table, tmp_path / "none.csv")
