"""A random uncurated sample: what it shows, and that chance alone chooses."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ffpdata.core.errors import FatalError
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.report.sample_pack import COLUMNS, contact_sheet, write_sample_pack
from ffpdata.takedown import of_run
from tests.fixture_run import GOOD, copy_run


def entries(folder: Path) -> list[dict]:
    return json.loads((folder / "pairs.json").read_text())


def test_it_shows_accepted_and_rejected_pairs(reported: RunFolder, tmp_path: Path) -> None:
    pack = write_sample_pack(reported, tmp_path / "pack", 500)
    found = entries(tmp_path / "pack")
    assert pack.pairs == pack.total == len(found)
    assert pack.accepted == sum(entry["status"] == "accepted" for entry in found)
    assert 0 < pack.accepted < pack.pairs
    page = pack.page.read_text()
    for entry in found:
        assert entry["item_id"] in page
        assert cv2.imread(str(tmp_path / "pack" / entry["sheet"])) is not None
    assert "<script" not in page, "what the input says stays text"


def test_a_seed_draws_the_same_and_another_one_others(reported: RunFolder, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert write_sample_pack(reported, tmp_path / name, 4, seed).pairs == 4
    drawn = {name: [entry["item_id"] for entry in entries(tmp_path / name)] for name in "abc"}
    assert drawn["a"] == drawn["b"] != drawn["c"]
    write_sample_pack(reported, tmp_path / "a", 2, 1)
    assert [entry["item_id"] for entry in entries(tmp_path / "a")] == drawn["a"][:2]
    assert len(list((tmp_path / "a/sheets").iterdir())) == 2, "the pack of before is gone"


def test_what_cannot_be_written_is_told(reported: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(FatalError, match="is not empty and no sample"):
        write_sample_pack(reported, tmp_path / "mine", 4)
    with pytest.raises(FatalError, match="no pipeline was started"):
        write_sample_pack(RunFolder(tmp_path / "nothing"), tmp_path / "pack", 4)


def test_what_was_taken_down_is_not_shown(tmp_path: Path) -> None:
    run = copy_run(tmp_path / "run")
    of_run.take_down(run, [GOOD[0]])
    write_sample_pack(run, tmp_path / "pack", 500)
    assert not [entry for entry in entries(tmp_path / "pack") if entry["source_id"] == GOOD[0]]


def test_a_sheet_has_the_source_above_the_target_and_outlines_the_object() -> None:
    masks = np.zeros((9, 72, 128), bool)
    masks[:, 20:50, 30:90] = True
    sheet = contact_sheet(np.full((9, 72, 128, 3), 200, np.uint8), np.full((9, 72, 128, 3), 50, np.uint8), masks)
    assert sheet.shape[1] == COLUMNS * 260 - 4
    above, below = sheet[: sheet.shape[0] // 2 - 4], sheet[-100:]
    assert (above == (255, 64, 64)).all(-1).any()
    assert not (below == (255, 64, 64)).all(-1).any()
    assert below[50, 50].tolist() == [50, 50, 50]
