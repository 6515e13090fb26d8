"""Every entry of an input becomes an item, the unusable ones with their reason."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ffpdata.core.errors import ConfigError, UsageError
from ffpdata.core.sections import InputSettings
from ffpdata.inputs.listing import list_inputs

CLIPS = InputSettings()
STYLED = InputSettings(kind="styled")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "clips"
    (root / "sub").mkdir(parents=True)
    for name in ("b.mp4", "a.mov", "sub/c.mkv", "notes.txt", ".hidden.mp4"):
        (root / name).write_bytes(b"x")
    (root / "x.mp4").mkdir()
    return root


def names(items, root: Path) -> list[str]:
    return [str(Path(i.values["path"]).relative_to(root)) for i in items]


def test_a_folder_lists_every_file_in_order(folder: Path) -> None:
    items = list_inputs(str(folder), CLIPS)
    assert names(items, folder) == ["a.mov", "b.mp4", "notes.txt", "sub/c.mkv", "x.mp4"]
    assert len({i.item_id for i in items}) == 5
    assert [i.item_id for i in list_inputs(str(folder), CLIPS)] == [i.item_id for i in items]
    assert names(list_inputs(str(folder), CLIPS, limit=2), folder) == ["a.mov", "b.mp4"]


def test_a_glob_and_a_single_file(folder: Path) -> None:
    assert names(list_inputs(f"{folder}/**/*.m*", CLIPS), folder) == ["a.mov", "b.mp4", "sub/c.mkv", "x.mp4"]
    assert names(list_inputs(f"{folder}/b.mp4", CLIPS), folder) == ["b.mp4"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_table_carries_what_the_user_knows(folder: Path, suffix: str) -> None:
    table = folder / f"clips.{suffix}"
    rows = [
        {"path": "b.mp4", "object": "red  ball", "box": "1,2,30,40", "licence": "CC0-1.0", "camera": "A7"},
        {"path": "sub/c.mkv", "object": "", "box": "", "licence": "", "camera": ""},
    ]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    else:
        mark = "\t" if suffix == "tsv" else ";"
        quoted = [[f'"{v}"' for v in r.values()] for r in rows]
        mark = "\t" if suffix == "tsv" else ","
        table.write_text("\n".join([mark.join(rows[0]), *(mark.join(q) for q in quoted)]), encoding="utf-8-sig")
    first, second = list_inputs(str(table), CLIPS)
    assert first.values["given_object"] == "red ball"
    assert first.values["given_box"] == [1, 2, 30, 40]
    assert first.values["licence"] == "CC0-1.0"
    assert first.values["meta"] == {"camera": "A7"}
    assert "given_object" not in second.values
    assert "meta" not in second.values


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.mp4", "path_outside_input"),
        ("/etc/passwd", "path_outside_input"),
        ("link.mp4", "path_outside_input"),
        ("http://example.org/a.mp4", "path_outside_input"),
        ("", "missing_path"),
    ],
)
def test_paths_that_leave_the_folder(folder: Path, tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"s")
    (folder / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "t.csv").write_text(f'path,object\n"{path}",ball\nb.mp4,ball\n')
    bad, good = list_inputs(str(folder / "t.csv"), CLIPS)
    assert bad.values["problem"][0] == reason
    assert "problem" not in good.values


def test_a_wider_root_can_be_allowed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "far.mp4").write_bytes(b"s")
    (folder / "t.csv").write_text(f"path\n{tmp_path / 'far.mp4'}\n")
    (item,) = list_inputs(str(folder / "t.csv"), InputSettings(root=str(tmp_path)))
    assert "problem" not in item.values


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "5,5,1,1", "-1,0,5,5"])
def test_a_box_that_is_none(folder: Path, box: str) -> None:
    (folder / "t.csv").write_text(f'path,box\nb.mp4,"{box}"\n')
    (item,) = list_inputs(str(folder / "t.csv"), CLIPS)
    assert item.values["problem"][0] == "bad_box"


def test_the_same_line_twice_makes_two_items(folder: Path) -> None:
    (folder / "t.csv").write_text("path\nb.mp4\nb.mp4\n")
    first, second = list_inputs(str(folder / "t.csv"), CLIPS)
    assert first.item_id != second.item_id


def test_a_table_without_paths(folder: Path) -> None:
    (folder / "t.csv").write_text("file,object\nb.mp4,ball\n")
    with pytest.raises(ConfigError, match=r"t\.csv: the table has no column 'path'.*It has: file, object"):
        list_inputs(str(folder / "t.csv"), CLIPS)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00bad", b"PAR1 no parquet"])
def test_tables_that_cannot_be_read(folder: Path, content: bytes) -> None:
    for name in ("t.csv", "t.parquet"):
        (folder / name).write_bytes(content)
        with pytest.raises(ConfigError, match=name):
            list_inputs(str(folder / name), CLIPS)


@pytest.mark.parametrize("source", ["nowhere", "nowhere/*.mp4"])
def test_nothing_there(tmp_path: Path, source: str) -> None:
    with pytest.raises(UsageError, match="no such folder, file or glob match"):
        list_inputs(str(tmp_path / source), CLIPS)


def styled(tmp_path: Path, content: int = 3, style: int = 4) -> Path:
    for kind, n in (("content", content), ("style", style)):
        (tmp_path / kind).mkdir()
        for i in range(n):
            (tmp_path / kind / f"{kind}{i}.png").write_bytes(b"x")
    return tmp_path


def test_styles_are_dealt_out_stably(tmp_path: Path) -> None:
    root = styled(tmp_path)
    before = {i.item_id: i.values["style_paths"] for i in list_inputs(str(root), STYLED)}
    assert [len(s) for s in before.values()] == [2, 2, 2]
    (root / "style" / "style9.png").write_bytes(b"x")
    after = {i.values["path"]: i.values["style_paths"] for i in list_inputs(str(root), STYLED)}
    kept = [set(a) & set(b) for a, b in zip(before.values(), after.values(), strict=True)]
    assert all(len(k) >= 1 for k in kept), "one new image takes at most one place of each source"


def test_a_folder_of_images_styles_itself(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png", "c.mp4"):
        (tmp_path / name).write_bytes(b"x")
    items = list_inputs(str(tmp_path), STYLED)
    for item in items:
        assert item.values["path"] not in item.values["style_paths"]
        assert not any(s.endswith(".mp4") for s in item.values["style_paths"])


def test_half_a_style_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "content").mkdir()
    with pytest.raises(UsageError, match="no style/"):
        list_inputs(str(tmp_path), STYLED)


def test_a_style_table_joins_its_lines(tmp_path: Path) -> None:
    root = styled(tmp_path)
    (root / "t.csv").write_text(
        "path,style\ncontent/content0.png,style/style0.png\ncontent/content0.png,style/style1.png\n"
        "content/content1.png,style/style0.png;style/style2.png\n"
    )
    first, second = list_inputs(str(root / "t.csv"), STYLED)
    assert [Path(s).name for s in first.values["style_paths"]] == ["style0.png", "style1.png"]
    assert [Path(s).name for s in second.values["style_paths"]] == ["style0.png", "style2.png"]


@pytest.mark.parametrize("deep", [1300, 3000])
def test_folders_deeper_than_calls_and_paths_can_be(tmp_path: Path, deep: int) -> None:
    """1300 are listed; of 3000 the path is longer than the system takes, and a folder on the way has the row."""
    root = tmp_path / "in"
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    (root / "z.mp4").write_bytes(b"z")
    for _ in range(deep):
        os.mkdir("d", dir_fd=here)
        there = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    os.close(os.open("a.mp4", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    try:
        first, last = list_inputs(str(root), CLIPS)
        assert last.values["path"] == str(root / "z.mp4")
        assert first.values["path"].count("/d") >= min(deep, 1900)
        assert first.values["path"].endswith("/a.mp4") == (deep == 1300)
        if deep == 1300:
            with pytest.raises(UsageError, match="too deep in each other for a glob"):
                list_inputs(f"{root}/**/*.mp4", CLIPS)
    finally:
        subprocess.run(["rm", "-rf", root], check=True)  # Python's own way calls itself for each folder


def test_files_beside_an_edited_first_frame(tmp_path: Path) -> None:
    for name in ("a.mp4", "edited.png", "mask.png", "x.png", "y.png"):
        (tmp_path / name).write_bytes(b"x")
    head = "path,edited_first_frame,mask,source_caption,edited_frame\n"
    rows = ["a.mp4,edited.png,mask.png,a dog,24=x.png; 8 = y.png", "a.mp4,edited.png,,,", "a.mp4,edited.png,,,x.png"]
    (tmp_path / "t.csv").write_text(head + "\n".join(rows))
    full, plain, wrong = list_inputs(str(tmp_path / "t.csv"), InputSettings(kind="propagated"))
    assert [Path(path).name for path in full.values["edited_frame_paths"]] == ["x.png", "y.png"]
    assert full.values["edited_frame_indices"] == [24, 8]
    assert len(full.values["mask_fingerprints"]) == len(full.values["mask_paths"]) == 1
    assert full.values["given_source_caption"] == "a dog"
    assert not {name for name in plain.values if name.startswith(("mask", "edited_frame_", "given"))}
    assert wrong.values["problem"][1].endswith("write INDEX=IMAGE, the frame's index from 0, e.g. 24=later.png")
    (tmp_path / "old.csv").write_text("path,edited_first_frame\na.mp4,edited.png\n")
    [old] = list_inputs(str(tmp_path / "old.csv"), InputSettings(kind="propagated"))
    assert old.item_id == plain.item_id
    [elsewhere, *_] = list_inputs(str(tmp_path / "t.csv"), CLIPS)
    assert elsewhere.values["meta"]["mask"] == "mask.png"
