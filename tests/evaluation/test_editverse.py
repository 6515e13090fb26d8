"""The reader of EditVerseBench: which items, which clips, and what it says of a wrong folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffpdata.core.errors import FfpdataWarning, UsageError
from ffpdata.evaluation.benchmarks import read_benchmark
from ffpdata.evaluation.editverse import read_editverse
from tests.evaluation.editverse_folder import make_benchmark, make_results


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("editverse")
    make_benchmark(folder / "data")
    make_results(folder / "results")
    return folder


def test_the_choice_is_told_with_its_number(given: Path, tmp_path: Path) -> None:
    data, ours = given / "data", str(given / "results" / "ours")
    choice = read_editverse([ours], data)
    assert (choice.items, choice.of, choice.left_out) == (5, 6, {"camera change": 1})
    assert "5 of 6 items (types without camera changes" in choice.told()
    assert "methods: ours" in choice.told()
    assert (read_editverse([ours], data, full=True).items, read_editverse([ours], data, full=True).rule) == (6, "all")
    ids = tmp_path / "ids.txt"
    ids.write_text("5  # the camera\n0\n0\n")
    chosen = read_editverse([ours], data, ids=ids)
    assert ([entry.item for entry in chosen.entries], chosen.rule) == (["5", "0"], "ids of ids.txt")
    ids.write_text("77\n")
    with pytest.raises(UsageError, match="has no item '77'"):
        read_editverse([ours], data, ids=ids)
    with pytest.raises(UsageError, match="give one of them"):
        read_editverse([ours], data, ids=ids, full=True)


def test_the_source_is_the_one_that_the_method_saw(given: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine" / "0"
    own.mkdir(parents=True)
    for name in ("generate.mp4", "video1.mp4", "edited_first_frame.png"):
        (own / name).write_bytes(b"x")
    first, second = read_editverse([str(tmp_path / "mine")], given / "data").entries[:2]
    assert (first.source, first.edited_first_frame) == (own / "video1.mp4", own / "edited_first_frame.png")
    assert (second.source, second.edited_first_frame) == (given / "data" / "videos" / "1.mp4", None)
    assert first.instruction == "Edit <video1>, 0."
    assert (first.target_prompt, first.category) == ("A scene 0.", "add object")
    assert second.target == tmp_path / "mine" / "1" / "generate.mp4"


def test_a_folder_per_method_and_names(given: Path) -> None:
    data, results = given / "data", given / "results"
    assert read_editverse([str(results)], data).methods == ["ours"]
    assert read_editverse([f"A={results}/ours", f"B={results}/ours"], data).methods == ["A", "B"]
    with pytest.raises(UsageError, match="two methods are called 'ours': name them, ours-2="):
        read_editverse([str(results), f"{results}/ours"], data)


def test_a_folder_without_outputs_is_told(given: Path, tmp_path: Path) -> None:
    (tmp_path / "a" / "0").mkdir(parents=True)
    (tmp_path / "silent").mkdir()
    (tmp_path / ".cache").mkdir()
    with pytest.warns(FfpdataWarning, match="no method's are silent: nothing of the benchmark is in them"):
        assert read_editverse([str(tmp_path)], given / "data").methods == ["a"]


def test_what_is_wrong_is_one_clear_error(given: Path, tmp_path: Path) -> None:
    data, ours = given / "data", str(given / "results" / "ours")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: the folder is empty"):
        read_editverse([str(tmp_path / "empty")], data)
    with pytest.raises(UsageError, match="gone: no such folder"):
        read_editverse([str(tmp_path / "gone")], data)
    with pytest.raises(UsageError, match=r"no outputs of this benchmark in it.*<id>/generate.mp4"):
        read_editverse([str(data)], data)
    with pytest.raises(UsageError, match="needs --data FOLDER"):
        read_editverse([ours], None)
    with pytest.raises(UsageError, match=r"test\.json is not there: --data names the folder"):
        read_editverse([ours], tmp_path)
    for text, why in (
        ("{", r"test.json cannot be read as JSON .*download it again"),
        ("[]", "expected an object with an entry per item"),
        ('{"0": {"type": "x"}}', "entry '0' has no `<text>`"),
    ):
        (tmp_path / "test.json").write_text(text)
        with pytest.raises(UsageError, match=why):
            read_editverse([ours], tmp_path)
    with pytest.raises(UsageError, match=r"no benchmark 'editvers'.*editverse.*or a table, e\.g\. items\.csv"):
        read_benchmark("editvers", [ours], data, unpacked=tmp_path)
    with pytest.raises(UsageError, match=r"--data .*gone: no such folder"):
        read_benchmark("editverse", [ours], tmp_path / "gone", unpacked=tmp_path)
