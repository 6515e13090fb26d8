"""The reader of UNICBench."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ffpdata.core.errors import UsageError
from ffpdata.evaluation.unic import read_unic


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    for task, number, files in (
        ("Add", "000", ("reference.mp4", "ours.mp4", "VACE.mp4")),
        ("Propagation", "001", ("reference.mp4", "origin.mp4", "ours.mp4", "propagation.jpg")),
    ):
        folder = tmp_path / "bench" / task / number
        folder.mkdir(parents=True)
        (folder / "caption.txt").write_text(f" A cat, {number}.\n")
        for name in files:
            (folder / name).touch()
    return tmp_path / "bench"


def test_every_clip_but_the_source_is_a_method(bench: Path) -> None:
    choice = read_unic([str(bench)], None)
    assert (choice.items, choice.of, choice.left_out) == (1, 2, {"Propagation": 1})
    assert choice.methods == ["VACE", "ours"]
    choice = read_unic([str(bench)], None, full=True)
    first, second = (entry for entry in choice.entries if entry.method == "VACE")
    assert (first.item, first.category, first.source) == ("Add/000", "Add", bench / "Add/000/reference.mp4")
    assert (first.instruction, first.target_prompt) == ("Add: A cat, 000.", "A cat, 000.")
    assert (first.edited_first_frame, second.edited_first_frame) == (None, bench / "Propagation/001/propagation.jpg")
    assert second.target == bench / "Propagation/001/VACE.mp4", "it ends as missing"


def test_own_outputs_and_instructions(bench: Path, tmp_path: Path) -> None:
    (tmp_path / "mine/Add/000").mkdir(parents=True)
    (tmp_path / "mine/Add/000/generate.mp4").touch()
    (bench / "instructions.json").write_text(json.dumps({"Add/000": "Put a cat on the sofa."}))
    [entry] = read_unic([f"new={tmp_path}/mine"], bench).entries
    assert (entry.method, entry.target) == ("new", tmp_path / "mine/Add/000/generate.mp4")
    assert entry.instruction == "Put a cat on the sofa."


def test_what_is_wrong_with_the_folder(bench: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no caption\.txt in it: expected <Task>/<NNN>/"):
        read_unic([str(tmp_path)], None)
    with pytest.raises(UsageError, match=r"no output other\.mp4 in it"):
        read_unic([f"other={bench}"], None)
    with pytest.raises(UsageError, match="two methods are called 'VACE'"):
        read_unic([str(bench), str(bench)], None)
    (bench / "instructions.json").write_text("[]")
    with pytest.raises(UsageError, match="expected an object"):
        read_unic([str(bench)], None)
